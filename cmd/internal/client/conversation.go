package client

import (
	_ "embed" // the scripts below
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/wasm/interpreter"
)

// The scripts with which a person talks to an interpreter.
var (
	//go:embed conversation/repl.js
	conversationJS string
	//go:embed conversation/repl.py
	conversationPython string
)

// withPrompts is the argument by which such a script prints prompts.
const withPrompts = "-i"

// conversation turns the name of a language into the file of a script that talks
// in it, which lies in this home so that a receipt can be looked into later. Every
// other word is left as it is.
func (a *app) conversation(word string) (file string, isLanguage bool, err error) {
	all := resources.Interpreters()
	at := slices.IndexFunc(all, func(i resources.Interpreter) bool { return i.Word == word })
	if at < 0 {
		return word, false, nil
	}
	script := conversationJS
	if all[at].Facet == resources.FacetPython {
		script = conversationPython
	}
	dir := filepath.Join(a.home, interpreter.Folder)
	file = filepath.Join(dir, fmt.Sprintf("repl-%.16s%s", mman.Sum256([]byte(script)), all[at].Suffixes[0]))
	if kept, err := os.ReadFile(file); err == nil && string(kept) == script { //nolint:gosec // below the home
		return file, true, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", false, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	f, err := os.CreateTemp(dir, "part-*")
	if err != nil {
		return "", false, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	_, err = f.WriteString(script)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return "", false, errors.Join(diskError("write "+file, err), os.Remove(f.Name()))
	}
	return file, true, nil
}
