package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/kubo"
)

const (
	overTCP  = "tcp"
	overQUIC = "quic"
)

// kuboProgram returns the kubo that is measured: the one that is named, or the one that
// the PATH has; none, and why, when there is none.
func kuboProgram(named string) (program, missing string, err error) {
	if named == "" {
		if program, err = exec.LookPath("ipfs"); err != nil {
			//nolint:nilerr // who has none is told how to get it
			return "", "kubo is not measured, because there is no ipfs in the PATH: " + kubo.Hint + ", and name it with --kubo /tmp/ipfs", nil
		}
		return program, "", nil
	}
	if program, err = exec.LookPath(named); err != nil {
		return "", "", fmt.Errorf("%w: bench content --kubo %s: %w; %s", mman.ErrInvalid, named, err, kubo.Hint)
	}
	return program, "", nil
}

// Kubo measures a stock kubo as Content measures us: one daemon adds a file of random
// bytes in leaves of 1 MiB, and others fetch it, each with a repository of its own on
// disk, over TCP and then over QUIC; once by ipfs cat, which reads through a DagReader,
// and once by ipfs pin add. It returns the better rate of each, in MB/s. kubo, as it
// comes, hashes what it gets and does not sync it. Files are made below dir and removed.
func Kubo(ctx context.Context, program, dir string, size uint64) (_ map[string]float64, err error) {
	dir, err = os.MkdirTemp(dir, "kubo-")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	giver, err := kubo.Start(ctx, kubo.Config{
		Program: program, Dir: filepath.Join(dir, "giver"),
		Listen: []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"},
	})
	if err != nil {
		return nil, err
	}
	defer giver.Stop()
	file := filepath.Join(dir, "file")
	if err := writeRandom(file, size); err != nil {
		return nil, err
	}
	added, err := giver.Run(ctx, nil, "add", "-Q", "--progress=false", "--cid-version=1", "--raw-leaves", "--chunker=size-"+strconv.Itoa(1<<20), file)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file); err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	addrs, err := giver.Run(ctx, nil, "id", "-f", "<addrs>")
	if err != nil {
		return nil, err
	}
	rates := make(map[string]float64)
	for _, wire := range []string{overTCP, overQUIC} {
		from := ""
		for a := range strings.FieldsSeq(string(addrs)) {
			if strings.Contains(a, "/"+wire) {
				from = a
			}
		}
		for _, how := range [][]string{{"cat"}, {"pin", "add", "--progress=false"}} {
			took, err := kuboFetch(ctx, program, filepath.Join(dir, "taker"), wire, from, append(how, strings.TrimSpace(string(added)))...)
			if err != nil {
				return nil, fmt.Errorf("kubo over %s: %w", wire, err)
			}
			rates[wire] = max(rates[wire], rate(size, took))
		}
	}
	return rates, nil
}

// kuboFetch times a command of a new daemon that knows nobody but the one at an address.
func kuboFetch(ctx context.Context, program, dir, wire, from string, args ...string) (_ time.Duration, err error) {
	taker, err := kubo.Start(ctx, kubo.Config{Program: program, Dir: dir, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		return 0, err
	}
	defer func() {
		taker.Stop()
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if _, err := taker.Run(ctx, nil, "swarm", "connect", from); err != nil {
		return 0, err
	}
	begin := time.Now()
	cmd := taker.Command(ctx, args...) // what it writes is dropped
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("%w: ipfs %s: %w", mman.ErrInternal, strings.Join(args, " "), err)
	}
	took := time.Since(begin)
	peers, err := taker.Run(ctx, nil, "swarm", "peers")
	if err == nil && !strings.Contains(string(peers), "/"+wire) {
		err = fmt.Errorf("%w: kubo fetched over another line: %.200s", mman.ErrInternal, peers)
	}
	return took, err
}
