// Command build compiles a program for go generate, the same from the same source,
// and compresses it: build GOARCH PACKAGE.
package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

func main() {
	if err := build(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func build(arch, pkg string) (err error) {
	dir, err := os.MkdirTemp("", "ferry")
	if err != nil {
		return err
	}
	defer func() { err = firstOf(err, os.RemoveAll(dir)) }()
	program := filepath.Join(dir, "program")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags=netgo,osusergo", "-ldflags=-s -w -buildid=", "-o", program, pkg) //nolint:gosec,noctx // our own package
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
	if err := cmd.Run(); err != nil {
		return err
	}
	b, err := os.ReadFile(program) //nolint:gosec // just made
	if err != nil {
		return err
	}
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(b); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile("ferry_"+arch+".gz", out.Bytes(), 0o644) //nolint:gosec // a file of the repository
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
