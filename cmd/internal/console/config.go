package console

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
)

const (
	// ConfigFile is the name of the config file in a home.
	ConfigFile = "config.yaml"
	// maxConfig bounds it.
	maxConfig = 64 << 10
	// HomeVariable is the environment variable that names the home.
	HomeVariable = "MMAN_HOME"
	homeFlag     = "home"
	// prefix is that of the environment variables of a program's own flags.
	prefix = "MMAN_"
)

// Home returns the folder that a flag, else the environment names, else .mman
// in the user's own folder.
func Home(flag string, s Streams) (string, error) {
	home := flag
	if home == "" {
		home = s.Env(HomeVariable)
	}
	if home == "" {
		user := s.Env("HOME")
		if user == "" {
			return "", Wrong("there is no home: name a folder with --home or %s", HomeVariable)
		}
		home = filepath.Join(user, ".mman")
	}
	abs, err := filepath.Abs(home)
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", mman.ErrHome, home, err)
	}
	return abs, nil
}

// Configure gives every flag of cmd that is not on the command line the value
// that the environment or the config file in home names.
//
// A flag of the whole program is also the variable MMAN_<NAME> and a key of the
// file; a flag of a verb is a key in the section that the verb's words name:
//
//	node: http://127.0.0.1:26657
//	peer: [/ip4/127.0.0.1/tcp/4051/p2p/12D3…]
//	request:
//	  run:
//	    max: 0.5MAN
//
// Dashes in names become underscores. The keys of the whole file are checked,
// also of verbs other than cmd: an unknown key is an error of usage.
func Configure(cmd *cobra.Command, home string, s Streams, program Program) error {
	file, err := readConfig(filepath.Join(home, ConfigFile))
	if err != nil {
		return err
	}
	c := config{filepath.Join(home, ConfigFile), cmd, program}
	if err := c.environment(s.Env); err != nil {
		return err
	}
	return c.section(cmd.Root(), file, "")
}

// Program says what its config file may hold beside the flags of verbs.
type Program struct {
	// Flags are the names of the flags that every verb has, without home: they
	// have environment variables.
	Flags []string
	// Aliases are other names of keys on the top level, by key.
	Aliases map[string]string
	// Others are keys on the top level that the other program reads, when both
	// live in one home.
	Others []string
}

type config struct {
	path    string
	used    *cobra.Command
	program Program
}

// section applies the keys of one verb and of those below it.
func (c config) section(cmd *cobra.Command, keys map[string]any, at string) error {
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		value, where := keys[key], at+key
		if !cmd.HasParent() && slices.Contains(c.program.Others, key) {
			continue
		}
		if below, ok := value.(map[string]any); ok {
			sub := child(cmd, key)
			if sub == nil {
				return c.wrong("%s: %s has no verb %q", where, cmd.CommandPath(), key)
			}
			if err := c.section(sub, below, where+"."); err != nil {
				return err
			}
			continue
		}
		if err := c.set(cmd, key, where, value); err != nil {
			return err
		}
	}
	return nil
}

func (c config) wrong(format string, args ...any) error {
	return Wrong("config file %s: "+format, append([]any{c.path}, args...)...)
}

// set gives a flag the values of a key. When the flag was given otherwise, or
// belongs to another verb, the values are only looked at.
func (c config) set(cmd *cobra.Command, key, where string, value any) error {
	flags := cmd.LocalNonPersistentFlags()
	if !cmd.HasParent() {
		flags = cmd.PersistentFlags()
		if c.program.Aliases[key] != "" {
			key = c.program.Aliases[key]
		}
	}
	name := strings.ReplaceAll(key, "_", "-")
	flag := flags.Lookup(name)
	if flag == nil || name == homeFlag || name == "help" || strings.Contains(key, "-") {
		return c.wrong("%s: there is no such key", where)
	}
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	} else if !strings.HasSuffix(flag.Value.Type(), "Array") {
		return c.wrong("%s: one value is needed, not a list", where)
	}
	if flag.Changed || (cmd.HasParent() && cmd != c.used) {
		return nil
	}
	for _, v := range list {
		switch v.(type) {
		case string, bool, int, int64, uint64:
		default:
			return c.wrong("%s: text, a number, true or false is needed", where)
		}
		if err := flag.Value.Set(fmt.Sprint(v)); err != nil {
			return c.wrong("%s: %w", where, err)
		}
	}
	return nil
}

// environment applies the variables of the program's own flags.
func (c config) environment(env func(string) string) error {
	for _, name := range c.program.Flags {
		flag := c.used.Root().PersistentFlags().Lookup(name)
		variable := prefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		value := env(variable)
		if flag.Changed || value == "" {
			continue
		}
		if err := flag.Value.Set(value); err != nil {
			return Wrong("environment variable %s: %w", variable, err)
		}
		flag.Changed = true // the file comes after
	}
	return nil
}

func child(cmd *cobra.Command, name string) *cobra.Command {
	for _, c := range cmd.Commands() {
		if c.Name() == name {
			return c
		}
	}
	return nil
}

func readConfig(path string) (_ map[string]any, err error) {
	f, err := os.Open(path) //nolint:gosec // the user's own home
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no file is an empty file
	}
	if err != nil {
		return nil, fmt.Errorf("%w: config file: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("%w: config file: %w", mman.ErrHome, err)
	}
	if len(b) > maxConfig {
		return nil, Wrong("config file %s has more than %d bytes", path, maxConfig)
	}
	var file map[string]any
	if err := yaml.UnmarshalWithOptions(b, &file, yaml.Strict()); err != nil {
		return nil, Wrong("config file %s: %s", path, strings.TrimSpace(yaml.FormatError(err, false, false)))
	}
	return file, nil
}
