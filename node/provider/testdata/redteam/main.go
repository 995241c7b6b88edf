// Command redteam tries to bring a byte of /data/0 out of its node: its first argument
// is the way, its second which byte.
package main

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// unit is how much a counting loop does for each step of a symbol.
const unit = 50_000

func main() {
	data, err := os.ReadFile("/data/0")
	if err != nil {
		panic(err)
	}
	at, err := strconv.Atoi(os.Args[2])
	if err != nil {
		panic(err)
	}
	leak(os.Args[1], data, at)
}

func leak(way string, data []byte, at int) {
	symbol := int(data[at])
	switch way {
	case "output":
		os.Stdout.WriteString("symbol " + strconv.Itoa(symbol))
	case "print":
		os.Stdout.Write(data)
	case "exit":
		os.Exit(symbol)
	case "stderr":
		os.Stderr.WriteString("error at line " + strconv.Itoa(symbol))
	case "fuel", "time":
		burn(symbol * unit * 20)
	case "length":
		os.Stdout.WriteString(strings.Repeat("\n", symbol*100))
	case "names":
		dir := filepath.Join("/tmp", strconv.Itoa(symbol))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			panic(err)
		}
		if err := os.WriteFile(filepath.Join(dir, strings.Repeat("n", 1+symbol)), data, 0o600); err != nil {
			panic(err)
		}
	case "crash":
		os.Stdout.WriteString(strings.Repeat("p", symbol))
		panic(symbol)
	case "limits":
		limit(symbol % 4)
	case "seed":
		var b [1]byte
		if _, err := rand.Read(b[:]); err != nil {
			panic(err)
		}
		bit := int(b[0]) % (8 * len(data))
		os.Stdout.WriteString(strconv.Itoa(bit)) // which one leaves with it
		os.Exit(int(data[bit/8] >> (bit % 8) & 1))
	case "sleep":
		time.Sleep(time.Duration(symbol) * time.Millisecond)
	default:
		panic(way)
	}
}

// burn counts.
func burn(n int) {
	x := uint32(1)
	for range n {
		x = x*1664525 + 1013904223
	}
	if x == 0 {
		os.Exit(99)
	}
}

// limit ends the program by one limit or another.
func limit(which int) {
	switch which {
	case 1: // memory
		var all [][]byte
		for {
			all = append(all, make([]byte, 8<<20))
			all[len(all)-1][0] = 1
		}
	case 2: // output
		for {
			os.Stdout.WriteString(strings.Repeat("y", 1<<16))
		}
	case 3: // a trap
		var p *int
		*p = 1
	}
}
