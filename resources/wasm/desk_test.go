package wasm_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
)

// framed is a conversation in records with a guest that says what it hears.
type framed struct {
	in      *typing
	said    answers
	aside   answers
	records resources.Records
	done    chan parted
}

func newFramed(t *testing.T, change ...func(*resources.Task)) *framed {
	t.Helper()
	f := &framed{in: newTyping(), said: make(answers, 64), aside: make(answers, 4096), done: make(chan parted, 1)}
	e := newExecutor(t)
	task, _ := newTask(wasmtest.Echo())
	for _, c := range change {
		c(&task)
	}
	prepared, err := e.Prepare(t.Context(), task)
	require.NoError(t, err)
	go func() {
		result, err := e.Run(t.Context(), prepared, resources.IO{Stdin: f.in, Stdout: f.said, Framed: true, Aside: f.aside})
		f.done <- parted{result, err}
	}()
	return f
}

func (f *framed) record(kind resources.RecordKind, body string) {
	f.in.lines <- string(resources.AppendRecord(nil, kind, []byte(body)))
}

// sent waits for the end of a file.
func (f *framed) sent(t *testing.T) (file string, errno byte) {
	t.Helper()
	for over := false; !over; {
		select {
		case b := <-f.aside:
			require.NoError(t, f.records.Push([]byte(b), func(kind resources.RecordKind, body []byte) (err error) {
				if kind == resources.RecordFile {
					file += string(body)
					return nil
				}
				over = true
				errno, err = resources.ParseDone(body)
				return err
			}))
		case <-time.After(time.Minute):
			require.FailNow(t, "no answer")
		}
	}
	return file, errno
}

func (f *framed) put(t *testing.T, name, text string) byte {
	t.Helper()
	f.record(resources.RecordPut, name)
	for b := []byte(text); len(b) > 0; {
		n := min(len(b), resources.RecordMaxBytes)
		f.record(resources.RecordPutData, string(b[:n]))
		b = b[n:]
	}
	f.record(resources.RecordPutEnd, "")
	_, errno := f.sent(t)
	return errno
}

func (f *framed) get(t *testing.T, name string) (string, byte) {
	t.Helper()
	f.record(resources.RecordGet, name)
	return f.sent(t)
}

// TestFramed: what is typed is the guest's input, and files come and go beside it, all
// of it counted and bounded.
func TestFramed(t *testing.T) {
	t.Parallel()
	f := newFramed(t)
	f.record(resources.RecordTyped, "hello")
	require.Equal(t, "hello", <-f.said)
	text := strings.Repeat("what is put there\n", 10_000)
	require.Zero(t, f.put(t, "put.txt", text))
	got, errno := f.get(t, "/tmp/put.txt")
	require.Zero(t, errno)
	require.Equal(t, text, got)
	require.Zero(t, f.put(t, "put.txt", "less"), "it is written anew")
	got, _ = f.get(t, "./put.txt")
	require.Equal(t, "less", got)
	require.Zero(t, f.put(t, "empty", ""))
	got, errno = f.get(t, "empty")
	require.Zero(t, errno)
	require.Empty(t, got)
	for name, want := range map[string]byte{
		"lost": 2, "/tmp": 21, "/etc/passwd": 2, "/data/0": 2, "../tmp/put.txt": 13, "put.txt/x": 20, "/tmpfile": 2,
	} {
		_, errno := f.get(t, name)
		require.Equal(t, want, errno, name)
	}
	for name, want := range map[string]byte{"/script/main.js": 30, "/tmp": 21, "no/such/folder": 2, "put.txt/x": 20, strings.Repeat("x", 300): 36} {
		require.Equal(t, want, f.put(t, name, "x"), name)
	}
	f.record(resources.RecordTyped, "again")
	require.Equal(t, "again", <-f.said)
	f.record(resources.RecordGetAtEnd, "put.txt")
	f.record(resources.RecordGetAtEnd, "lost")
	f.record(resources.RecordTypedEnd, "")
	ended := <-f.done
	require.NoError(t, ended.err)
	got, errno = f.sent(t)
	require.Zero(t, errno)
	require.Equal(t, "less", got)
	_, errno = f.sent(t)
	require.EqualValues(t, 2, errno)
	require.Greater(t, ended.result.Usage.InBytes, uint64(len(text)), "what is put is input")
	require.Greater(t, ended.result.Usage.OutBytes, uint64(len(text)), "what is sent is output")
}

// TestFramedLimits: files take no more than the scratch has, a run takes no more than its
// input, and a file that is larger than the output may be is not begun.
func TestFramedLimits(t *testing.T) {
	t.Parallel()
	f := newFramed(t, func(w *resources.Task) { w.Limits.InputBytes, w.Limits.MemoryBytes = 1<<30, 256<<20 })
	piece := string(bytes.Repeat([]byte{7}, resources.RecordMaxBytes))
	f.record(resources.RecordPut, "large")
	for range wasm.ScratchMaxBytes/resources.RecordMaxBytes + 1 {
		f.record(resources.RecordPutData, piece)
	}
	f.record(resources.RecordPutEnd, "")
	_, errno := f.sent(t)
	require.NotZero(t, errno)
	require.Zero(t, f.put(t, "large", "small"), "what did not fit gives its place back")
	close(f.in.lines)
	require.NoError(t, (<-f.done).err)

	f = newFramed(t, func(w *resources.Task) { w.Limits.OutputBytes = 128 << 10 })
	require.Zero(t, f.put(t, "a", piece+piece+piece+piece+piece))
	_, errno = f.get(t, "a")
	require.EqualValues(t, 27, errno)
	f.record(resources.RecordTyped, "on it goes")
	require.Equal(t, "on it goes", <-f.said)
	close(f.in.lines)
	require.NoError(t, (<-f.done).err)

	f = newFramed(t, func(w *resources.Task) { w.Limits.InputBytes = 1000 })
	f.record(resources.RecordPut, "a")
	f.record(resources.RecordPutData, piece[:1000])
	require.ErrorIs(t, (<-f.done).err, mman.ErrInputLimit)
}

// TestFramedDisorder: records that may not come end the run.
func TestFramedDisorder(t *testing.T) {
	t.Parallel()
	for name, kinds := range map[string][]resources.RecordKind{
		"unknown": {99}, "an answer": {resources.RecordDone}, "bytes of no file": {resources.RecordPutData},
		"a file within a file": {resources.RecordPut, resources.RecordPut}, "the size of no terminal": {resources.RecordSize},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFramed(t)
			for _, k := range kinds {
				f.record(k, "name")
			}
			require.ErrorIs(t, (<-f.done).err, mman.ErrProtocol)
		})
	}
	e := newExecutor(t)
	for _, streams := range []resources.IO{
		{Framed: true},
		{Stdin: newTyping(), Framed: true, Terminal: &resources.Terminal{Columns: 80, Rows: 24}},
	} {
		task, _ := newTask(wasmtest.Echo())
		prepared, err := e.Prepare(t.Context(), task)
		require.NoError(t, err)
		_, err = e.Run(t.Context(), prepared, streams)
		require.ErrorIs(t, err, mman.ErrUnsupported)
		require.NoError(t, prepared.Close())
	}
}
