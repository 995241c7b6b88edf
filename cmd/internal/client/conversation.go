package client

import (
	"cmp"
	"context"
	_ "embed" // the scripts below
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/wasm/interpreter"
	"github.com/limboid/massive-man/sdk"
)

// The scripts with which a person talks to an interpreter.
var (
	//go:embed conversation/repl.js
	conversationJS string
	//go:embed conversation/repl.py
	conversationPython string
)

// choice is a way to talk in a language.
type choice struct {
	algorithm      string // a CID or a file
	where, sandbox string // of the compute
	prompts        bool   // our own script talks, and prints prompts if asked
}

const (
	// attributeREPL is the attribute of an image that talks: its value is the word
	// that people type.
	attributeREPL = "repl"
	// sandboxWASM asks for WebAssembly where a container would do.
	sandboxWASM = "wasm"
	wordMost    = 16
)

// isWord reports whether a person names a language, and not a file or a CID.
func isWord(s string) bool {
	if len(s) > wordMost || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return false
	}
	_, err := os.Stat(s)
	return err != nil
}

// choices lists how a language can be talked in, the best first: in an image at the
// node that lends it, where a container may stand ready; in that image elsewhere; in
// WebAssembly.
func (a *app) choices(ctx context.Context, c *sdk.Client, word string, w *work) (out []choice, err error) {
	dht, err := parseDiscover(w.discover)
	if err != nil {
		return nil, err
	}
	if w.sandbox != sandboxWASM {
		if out, err = a.images(ctx, c, word, w, dht); err != nil {
			return nil, err
		}
	}
	if w.sandbox == "" || w.sandbox == sandboxWASM {
		language := word
		if word == "node" {
			language = "js"
		}
		file, ok, err := a.conversation(language)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, choice{algorithm: file, where: w.where, prompts: true})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: nobody lends a REPL of %s here; name an image as a file or CID, or see what there is: mman search --kind algorithm repl", mman.ErrNotFound, word)
	}
	return out, nil
}

func (a *app) images(ctx context.Context, c *sdk.Client, word string, w *work, dht bool) (out []choice, err error) {
	found, err := c.Find(ctx, resources.KindAlgorithm, resources.FacetContainer, mman.CID{}, dht)
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(f sdk.Found) bool {
		return !slices.Contains(f.Offer.Attributes, resources.Attribute{Key: attributeREPL, Value: word})
	})
	if len(found) == 0 {
		return nil, nil
	}
	engines, err := c.Find(ctx, resources.KindCompute, resources.FacetContainer, mman.CID{}, dht)
	if err != nil {
		return nil, err
	}
	here := func(f sdk.Found) bool {
		return slices.ContainsFunc(engines, func(e sdk.Found) bool { return e.Offer.Peer == f.Offer.Peer })
	}
	slices.SortStableFunc(found, func(x, y sdk.Found) int {
		if here(x) != here(y) {
			if here(x) {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(x.Offer.Price.PerLease, y.Offer.Price.PerLease), slices.Compare(x.ID.Bytes(), y.ID.Bytes()))
	})
	for _, f := range found[:min(len(found), choicesMost)] {
		if here(f) {
			pin := fmt.Sprintf("offer.peer == %q", f.Offer.Peer)
			if w.where != "" {
				pin += " && (" + w.where + ")"
			}
			out = append(out, choice{algorithm: f.Offer.Resource.String(), where: pin, sandbox: w.sandbox})
		}
	}
	if len(engines) > 0 {
		out = append(out, choice{algorithm: found[0].Offer.Resource.String(), where: w.where, sandbox: w.sandbox})
	}
	return out, nil
}

// choicesMost is how many images are tried at their own nodes.
const choicesMost = 3

// prompting returns the arguments by which such a script talks with a person, line by
// line, with prompts and with colours.
func prompting(plain bool) []string {
	if plain {
		return []string{"-i"}
	}
	return []string{"-i", "-c"}
}

// dropLine is the line by which a person gives up what was begun; only our own scripts
// know it.
const dropLine = "\x03\n"

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
