package e2e_test

import (
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// person sits at a terminal.
type person struct {
	t      *testing.T
	master *os.File
	said   chan string
	heard  string
}

// openTerminal makes a terminal: its person's side, and the program's.
func openTerminal(t *testing.T, columns, rows uint16) (*person, *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = master.Close() }) // it may be closed
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	screen, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = screen.Close() }) // it may be closed
	p := &person{t: t, master: master, said: make(chan string, 1024)}
	p.resize(columns, rows)
	go func() {
		defer close(p.said)
		b := make([]byte, 4<<10)
		for {
			n, err := master.Read(b)
			p.said <- string(b[:n])
			if err != nil {
				return
			}
		}
	}()
	return p, screen
}

func (p *person) resize(columns, rows uint16) {
	p.t.Helper()
	require.NoError(p.t, unix.IoctlSetWinsize(int(p.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}))
}

func (p *person) types(text string) {
	p.t.Helper()
	_, err := io.WriteString(p.master, text)
	require.NoError(p.t, err)
}

// hears waits until the terminal shows something, and returns all up to it.
func (p *person) hears(text string) string {
	p.t.Helper()
	late := time.After(within)
	for !strings.Contains(p.heard, text) {
		select {
		case said, ok := <-p.said:
			require.True(p.t, ok, "the terminal closed before it showed %q: %q", text, p.heard)
			p.heard += said
		case <-late:
			require.FailNow(p.t, "not shown", "%q: %q", text, p.heard)
		}
	}
	i := strings.Index(p.heard, text) + len(text)
	all := p.heard[:i]
	p.heard = p.heard[i:]
	return all
}
