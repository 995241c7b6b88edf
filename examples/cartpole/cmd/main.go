// Command cartpole is the environment for WASI.
package main

import (
	"crypto/rand"
	"encoding/binary"
	"os"

	"github.com/limboid/massive-man/examples/cartpole"
)

func main() {
	err := cartpole.Serve(os.Stdin, os.Stdout, func() (uint64, error) {
		var b [8]byte
		_, err := rand.Read(b[:])
		return binary.LittleEndian.Uint64(b[:]), err
	})
	if err != nil {
		_, _ = os.Stderr.WriteString("cartpole: " + err.Error() + "\n")
		os.Exit(2) //nolint:forbidigo // this is a main package
	}
}
