package ferry

import (
	"bytes"
	"compress/gzip"
	_ "embed" // the programs below
	"fmt"
	"io"

	mman "github.com/limboid/massive-man"
)

var (
	//go:embed ferry_amd64.gz
	amd64 []byte
	//go:embed ferry_arm64.gz
	arm64 []byte
)

// maxBytes bounds the program.
const maxBytes = 16 << 20

// Program returns the ferry for a processor in Go's words, a static program for
// Linux. It fails with mman.ErrUnsupported.
func Program(arch string) ([]byte, error) {
	packed := amd64
	switch arch {
	case "amd64":
	case "arm64":
		packed = arm64
	default:
		return nil, fmt.Errorf("%w: hosted containers on %.20s: amd64 and arm64 are known", mman.ErrUnsupported, arch)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrCorrupt, err)
	}
	b, err := io.ReadAll(io.LimitReader(z, maxBytes))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrCorrupt, err)
	}
	return b, nil
}
