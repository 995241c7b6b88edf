package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/sdk/keyring"
)

// maxKeyFile bounds a key file that is imported.
const maxKeyFile = 16 << 10

// keyAnswer is a key as scripts read it.
type keyAnswer struct {
	Name    string       `json:"name"`
	Address mman.Address `json:"address"`
	Type    sig.KeyType  `json:"type"`
}

func (a *app) keys() *cobra.Command {
	return console.Group(&cobra.Command{
		Use: "keys", Short: "Make, list, import and export account keys",
		Example: "  mman keys new me\n  mman keys list",
	}, a.keysNew(), a.keysList(), a.keysShow(), a.keysImport(), a.keysExport())
}

func (a *app) keysNew() *cobra.Command {
	kind, file, plain := sig.Ed25519, "", false
	cmd := &cobra.Command{
		Use: "new NAME", Short: "Make a key and its mnemonic",
		Long: `Make a key and its mnemonic.

The mnemonic is the only backup that needs no passphrase. It is written to
--mnemonic-file, else shown once when standard output is a terminal and the
answer is text; otherwise it is forgotten, and mman keys export is the backup.`,
		Example: "  mman keys new me\n  mman keys new wallet --type secp256k1 --mnemonic-file words.txt -o json",
		Args:    console.Args(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.newKey(cmd.Context(), args[0], kind, file, plain)
		},
	}
	f := cmd.Flags()
	f.TextVar(&kind, "type", sig.Ed25519, "ed25519, or secp256k1 for wallets of the Cosmos ecosystem")
	f.StringVar(&file, "mnemonic-file", "", "new file for the mnemonic")
	f.BoolVar(&plain, "unencrypted", false, "keep the key without a passphrase, only for networks whose money is worth nothing")
	return cmd
}

func (a *app) newKey(ctx context.Context, name string, kind sig.KeyType, file string, plain bool) error {
	ring, err := a.keyring(plain)
	if err != nil {
		return err
	}
	// A taken or bad name is said before a passphrase is asked for.
	if _, err := ring.Info(name); err == nil {
		return fmt.Errorf("%w: key %s; choose another name", mman.ErrExists, name)
	} else if errors.Is(err, mman.ErrInvalid) {
		return console.Wrong("%w", err)
	}
	words, err := keyring.NewMnemonic(rand.Reader)
	if err != nil {
		return err
	}
	if file != "" {
		if err := keyring.WriteMnemonic(file, words); err != nil {
			return err
		}
	}
	info, err := ring.New(name, kind, words, 0, a.choose(ctx))
	if err != nil {
		if file != "" {
			err = errors.Join(err, os.Remove(file)) // words without a key
		}
		return err
	}
	lines := []string{fmt.Sprintf("key %s, account %s", info.Name, info.Address)}
	switch {
	case file != "":
		lines = append(lines, "Its mnemonic is in "+file+": keep that file where nobody else can read it, and off this machine.")
	case console.Terminal(a.streams.Out) && a.output == formatText:
		lines = append(lines, "", words, "",
			"Write these 24 words on paper now: they are shown once, and whoever has them has the account.")
	default:
		lines = append(lines, "The mnemonic was not kept: back the key up with mman keys export "+info.Name+" --out FILE")
	}
	return a.answer(keyAnswer{info.Name, info.Address, info.Type}, lines...)
}

// choose asks for the passphrase of a new key.
func (a *app) choose(ctx context.Context) keyring.Passphrase {
	return func(name string) ([]byte, error) {
		return console.Asker{Streams: a.streams, File: a.passphraseFile, Twice: true}.Ask(ctx, name)
	}
}

func (a *app) keysList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the keys of this home",
		Example: "  mman keys list -o json",
		Args:    console.Args(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			ring, err := a.keyring(false)
			if err != nil {
				return err
			}
			all, err := ring.List()
			if err != nil {
				return err
			}
			answer := struct {
				Keys []keyring.Info `json:"keys"`
			}{append([]keyring.Info{}, all...)}
			if len(all) == 0 {
				return a.answer(answer, "There is no key in "+a.home+" yet: make one with mman keys new NAME")
			}
			rows := make([][]string, len(all))
			for i, k := range all {
				rows[i] = []string{k.Name, k.Address.String(), k.Type.String(), protection(k)}
			}
			return a.answer(answer, table([]string{"NAME", "ADDRESS", "TYPE", "FILE"}, rows)...)
		},
	}
}

func protection(k keyring.Info) string {
	if k.Encrypted {
		return "encrypted"
	}
	return "not encrypted"
}

func (a *app) keysShow() *cobra.Command {
	return &cobra.Command{
		Use: "show [NAME]", Short: "Show a key's address and public half",
		Example: "  mman keys show me",
		Args:    console.Args(0, 1, "NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			ring, err := a.keyring(false)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				a.from = args[0]
			}
			k, err := a.own(ring)
			if err != nil {
				return err
			}
			return a.answer(k, facts("name", k.Name, "address", k.Address.String(), "public key", k.PublicKey.String(), "file", protection(k))...)
		},
	}
}

func (a *app) keysImport() *cobra.Command {
	kind, words, plain := sig.Ed25519, "", false
	var index uint32
	cmd := &cobra.Command{
		Use: "import NAME [FILE]", Short: "Import a key from a key file or a mnemonic",
		Example: "  mman keys import me backup.json\n  mman keys import wallet --mnemonic-file words.txt --type secp256k1",
		Args:    console.Args(1, 2, "NAME and FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ring, err := a.keyring(plain)
			if err != nil {
				return err
			}
			if (len(args) == 2) == (words != "") {
				return console.Wrong("mman keys import needs either FILE, a key file that mman keys export wrote, or --mnemonic-file")
			}
			var info keyring.Info
			if words != "" {
				info, err = a.importWords(cmd.Context(), ring, args[0], kind, words, index)
			} else {
				info, err = a.importFile(cmd.Context(), ring, args[0], args[1])
			}
			if err != nil {
				return err
			}
			return a.answer(keyAnswer{info.Name, info.Address, info.Type}, fmt.Sprintf("key %s, account %s", info.Name, info.Address))
		},
	}
	f := cmd.Flags()
	f.TextVar(&kind, "type", sig.Ed25519, "of a key from a mnemonic: ed25519 or secp256k1")
	f.StringVar(&words, "mnemonic-file", "", "file with a mnemonic of 12 to 24 words")
	f.Uint32Var(&index, "index", 0, "which account of the mnemonic")
	f.BoolVar(&plain, "unencrypted", false, "keep the key without a passphrase, only for networks whose money is worth nothing")
	return cmd
}

func (a *app) importWords(ctx context.Context, ring *keyring.Keyring, name string, kind sig.KeyType, file string, index uint32) (keyring.Info, error) {
	words, err := keyring.ReadMnemonic(file)
	if err != nil {
		return keyring.Info{}, err
	}
	return ring.New(name, kind, words, index, a.choose(ctx))
}

func (a *app) importFile(ctx context.Context, ring *keyring.Keyring, name, path string) (_ keyring.Info, err error) {
	f, err := os.Open(path) //nolint:gosec // the user names it
	if errors.Is(err, fs.ErrNotExist) {
		return keyring.Info{}, fmt.Errorf("%w: key file %s", mman.ErrNotFound, path)
	}
	if err != nil {
		return keyring.Info{}, fmt.Errorf("%w: key file: %w", mman.ErrKeyfile, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return keyring.Info{}, fmt.Errorf("%w: key file %s: %w", mman.ErrKeyfile, path, err)
	}
	return ring.ImportFile(name, data, a.passphrase(ctx))
}

func (a *app) keysExport() *cobra.Command {
	out := ""
	cmd := &cobra.Command{
		Use: "export NAME", Short: "Export a key file, encrypted as it is kept",
		Example: "  mman keys export me --out backup.json",
		Args:    console.Args(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ring, err := a.keyring(false)
			if err != nil {
				return err
			}
			data, err := ring.Export(args[0], a.passphrase(cmd.Context()))
			if err != nil {
				return err
			}
			if out == "" {
				if _, err := a.streams.Out.Write(append(bytes.TrimSpace(data), '\n')); err != nil {
					return console.Unwritten(err)
				}
				return nil
			}
			if err := writeNew(out, data); err != nil {
				return err
			}
			return a.answer(struct {
				Name string `json:"name"`
				File string `json:"file"`
			}{args[0], out}, "key "+args[0]+" is in "+out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "new file for it (default standard output)")
	return cmd
}

// writeNew writes a secret to a file that must not exist.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the user names it
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s: name a file that does not exist", mman.ErrExists, path)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrKeyfile, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrKeyfile, errors.Join(err, os.Remove(path)))
	}
	return nil
}
