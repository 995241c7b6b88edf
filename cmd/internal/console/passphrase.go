package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	mman "github.com/limboid/massive-man"
)

// maxPassphrase bounds a passphrase, in bytes.
const maxPassphrase = 4096

// PassphraseVariable is the environment variable that may hold a passphrase.
const PassphraseVariable = "MMAN_PASSPHRASE"

// Asker gets passphrases: from a file, else from the environment, else from the
// person at the terminal.
type Asker struct {
	Streams Streams
	// File holds a passphrase on its first line; "" for none.
	File string
	// Twice asks a person again, for a passphrase that is chosen now.
	Twice bool
}

// Ask returns the passphrase of the key called name. It fails when there is
// nobody to ask, with ErrCanceled when ctx ends first; the keyring adds the code
// and the key's name.
func (a Asker) Ask(ctx context.Context, name string) ([]byte, error) {
	if a.File != "" {
		return readPassphrase(a.File)
	}
	if p := a.Streams.Env(PassphraseVariable); p != "" {
		return []byte(p), nil
	}
	tty, closeTTY := a.terminal()
	if tty == nil {
		return nil, errors.New("there is nobody to ask: name a file with --passphrase-file, set " + PassphraseVariable + ", or type it at a terminal")
	}
	defer closeTTY()
	if !a.Twice {
		return prompt(ctx, tty, a.Streams.Err, "Passphrase of key "+name+": ")
	}
	first, err := prompt(ctx, tty, a.Streams.Err, "Choose a passphrase for key "+name+": ")
	if err != nil {
		return nil, err
	}
	again, err := prompt(ctx, tty, a.Streams.Err, "Type it again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, again) {
		return nil, fmt.Errorf("%w: the two passphrases differ; nothing was written", mman.ErrInvalid)
	}
	return first, nil
}

// terminal returns where to ask: standard input, or the controlling terminal
// when standard input is a pipe but somebody watches standard error.
func (a Asker) terminal() (*os.File, func()) {
	if f, ok := a.Streams.In.(*os.File); ok && Terminal(f) {
		return f, func() {}
	}
	if !Terminal(a.Streams.Err) {
		return nil, nil
	}
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, nil
	}
	return f, func() { _ = f.Close() } // only read from
}

// prompt reads a line without echo. The terminal is as before even when ctx
// ends meanwhile.
func prompt(ctx context.Context, tty *os.File, w io.Writer, text string) ([]byte, error) {
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	_, _ = fmt.Fprint(w, text) // a prompt that cannot be seen can still be answered
	type line struct {
		text []byte
		err  error
	}
	got := make(chan line, 1)
	go func() {
		b, err := term.ReadPassword(fd)
		got <- line{b, err}
	}()
	select {
	case <-ctx.Done():
		_, _ = fmt.Fprintln(w) // what follows begins its own line
		// The reader stays until the process ends, which is now.
		return nil, errors.Join(fmt.Errorf("%w: no passphrase was typed", mman.ErrCanceled), term.Restore(fd, before))
	case l := <-got:
		_, _ = fmt.Fprintln(w) // the newline that was not echoed
		if l.err != nil {
			return nil, fmt.Errorf("read from the terminal: %w", l.err)
		}
		return l.text, nil
	}
}

func readPassphrase(path string) (_ []byte, err error) {
	f, err := os.Open(path) //nolint:gosec // the user names it
	if err != nil {
		return nil, fmt.Errorf("passphrase file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err := io.ReadAll(io.LimitReader(f, maxPassphrase+2))
	if err != nil {
		return nil, fmt.Errorf("passphrase file %s: %w", path, err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" || len(line) > maxPassphrase {
		return nil, fmt.Errorf("passphrase file %s: its first line must have 1 to %d bytes", path, maxPassphrase)
	}
	return []byte(line), nil
}
