package wasm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// Description is all that a run depends on, with the contents in files beside
// it, so that an engine of another make can do it again. It is written as JSON;
// its numbers are below 2⁵³.
type Description struct {
	// Version of the format, 1, and of the meter that is built into the module.
	Version uint64 `json:"version"`
	Meter   uint64 `json:"meter"`
	// Module is the file of the instrumented module, Stdin that of its standard
	// input, "" for none.
	Module string `json:"module"`
	Stdin  string `json:"stdin,omitempty"`
	// Args are all of the command line, with the program's name.
	Args   []string `json:"args"`
	Mounts []Mount  `json:"mounts"`
	// Seed is the run's. The bytes of random_get are those of ChaCha8Rand, keyed
	// with the SHA-256 of "mman/wasm/random/1", a zero byte and the seed.
	Seed mman.Hash `json:"seed"`
	// ClockEpoch is where the real-time clock begins, in ns; every look at a
	// clock moves all clocks by ClockStep first.
	ClockEpoch string           `json:"clock_epoch_ns"`
	ClockStep  string           `json:"clock_step_ns"`
	Limits     resources.Limits `json:"limits"`
	// Expected is how the run ended.
	Expected Ending `json:"expected"`
}

// Mount is a folder that a guest finds open, from descriptor 3 on.
type Mount struct {
	Path  string `json:"path"`
	Inode uint64 `json:"inode"`
	// Files cannot be changed; the guest may make its own where MaxBytes, which
	// bounds them, is not 0.
	Files    []MountedFile `json:"files,omitempty"`
	MaxBytes uint64        `json:"max_bytes,omitempty"`
}

// MountedFile is a file of a Mount; Content is the file that holds its bytes.
type MountedFile struct {
	Name    string `json:"name"`
	Inode   uint64 `json:"inode"`
	Content string `json:"content"`
}

// Ending is how a run ended.
type Ending struct {
	// Code is 0 when the guest ended by itself, else that of the mman.Error that
	// says why it was stopped.
	Code         mman.Code `json:"code"`
	ExitCode     uint32    `json:"exit_code"`
	Fuel         uint64    `json:"fuel"`
	StdoutBytes  uint64    `json:"stdout_bytes"`
	StdoutSHA256 mman.Hash `json:"stdout_sha256"`
	// OutBytes counts both output streams.
	OutBytes uint64 `json:"out_bytes"`
}

// descriptionFile is the name of the Description in its folder.
const descriptionFile = "run.json"

// Export writes a task and how it ended into a folder, which must not exist yet
// or be empty: run.json, a Description, and the files that it names.
func Export(ctx context.Context, task resources.Task, ending Ending, dir string) error {
	if err := task.Validate(); err != nil {
		return err
	}
	if slices.Contains(task.Folders, true) {
		return fmt.Errorf("%w: a run with a folder among its inputs is replayed here, and not exported", mman.ErrUnsupported)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil { //nolint:gosec // the user shares it with whom the umask says
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		return fmt.Errorf("%w: %s is not an empty folder: name another", mman.ErrInvalid, dir)
	}
	x := exporter{ctx, task, dir}
	d := Description{
		Version: 1, Meter: MeterVersion, Module: "module.wasm", Args: (&preparedTask{task: task}).arguments(), Seed: task.Seed,
		ClockEpoch: strconv.FormatUint(ClockEpoch, 10), ClockStep: strconv.FormatUint(ClockStep, 10),
		Limits: task.Limits, Expected: ending,
	}
	if err := x.module(d.Module); err != nil {
		return err
	}
	if !task.Stdin.IsZero() {
		d.Stdin = "stdin"
		if err := x.content(task.Stdin, d.Stdin); err != nil {
			return err
		}
	}
	data := Mount{Path: DataDir, Inode: inodeData}
	for i, id := range task.Inputs {
		f := MountedFile{strconv.Itoa(i), inodeData + 1 + uint64(i), "data-" + strconv.Itoa(i)}
		if err := x.content(id, f.Content); err != nil {
			return err
		}
		data.Files = append(data.Files, f)
	}
	d.Mounts = []Mount{data, {Path: ScratchDir, Inode: inodeTmp, MaxBytes: ScratchMaxBytes}}
	if l, ok := languageOf(task.Facet); ok {
		mount, err := x.script(l)
		if err != nil {
			return err
		}
		d.Mounts = append(d.Mounts, mount)
	}
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	return x.write(descriptionFile, bytes.NewReader(append(b, '\n')))
}

type exporter struct {
	ctx  context.Context //nolint:containedctx // of one call
	task resources.Task
	dir  string
}

func (x exporter) write(name string, r io.Reader) (err error) {
	f, err := os.OpenFile(filepath.Join(x.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666) //nolint:gosec // the user shares it with whom the umask says
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, r); err != nil {
		return fmt.Errorf("export %s: %w", name, err)
	}
	return nil
}

func (x exporter) content(id mman.CID, name string) (err error) {
	b, err := x.task.Content.Open(x.ctx, id)
	if err != nil {
		return fmt.Errorf("export %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return x.write(name, b)
}

// module writes the module as executors run it.
func (x exporter) module(name string) (err error) {
	b, err := x.task.Content.Open(x.ctx, x.task.Module())
	if err != nil {
		return fmt.Errorf("export %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	original, err := io.ReadAll(io.LimitReader(b, ModuleMaxBytes+1))
	if err != nil {
		return fmt.Errorf("export %s: %w", name, err)
	}
	known := map[string]bool{}
	for _, f := range hostFuncs() {
		known[f.name] = true
	}
	instrumented, err := admit(original, func(name string) bool { return known[name] })
	if err != nil {
		return fmt.Errorf("export %s: %w", name, err)
	}
	return x.write(name, bytes.NewReader(instrumented.code))
}

func (x exporter) script(l language) (Mount, error) {
	m := Mount{Path: ScriptDir, Inode: inodeScript}
	m.Files = append(m.Files, MountedFile{mainName + l.suffix, inodeScript + 1, "script" + l.suffix})
	if err := x.content(x.task.Algorithm, m.Files[0].Content); err != nil {
		return m, err
	}
	if !l.prelude {
		return m, nil
	}
	m.Files = append(m.Files, MountedFile{preludeName, inodeScript + 2, preludeName})
	return m, x.write(preludeName, bytes.NewReader(prelude(x.task.Seed)))
}
