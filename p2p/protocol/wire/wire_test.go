package wire_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/p2ptest"
	"github.com/limboid/massive-man/p2p/protocol/wire"
)

type greeting struct {
	Text string `cbor:"text"`
	Seq  uint64 `cbor:"seq"`
}

const (
	kindGreeting wire.Kind = 1
	kindData     wire.Kind = 2
	name                   = "/mman/wiretest/1"
)

// pair returns the asker's stream to a peer that runs serve.
func pair(t *testing.T, serve func(p2p.Stream)) p2p.Stream {
	t.Helper()
	hosts := p2ptest.New(t, 2)
	hosts[1].Handle(t.Context(), name, func(_ context.Context, s p2p.Stream) { serve(s) })
	p2ptest.Connect(t, hosts[0], hosts[1])
	s, err := hosts[0].Open(t.Context(), hosts[1].ID(), name)
	require.NoError(t, err)
	return s
}

func config() wire.Config {
	return wire.Config{MaxRead: 1 << 20, IdleTimeout: 5 * time.Second, FrameTimeout: 5 * time.Second}
}

func TestFramesThereAndBack(t *testing.T) {
	t.Parallel()
	s := pair(t, func(s p2p.Stream) {
		c := wire.New(s, config())
		for {
			f, err := c.Read()
			if err != nil {
				_ = c.Close()
				return
			}
			if c.Write(f.Kind, f.Body) != nil {
				return
			}
		}
	})
	c := wire.New(s, config())
	want := greeting{"hello", 7}
	require.NoError(t, c.Send(kindGreeting, want))
	got, err := wire.Receive[greeting](c, kindGreeting)
	require.NoError(t, err)
	require.Equal(t, want, got)
	for _, n := range []int{0, 1, 4095, 4096, 64 << 10, 200_000, 1<<20 - 1} {
		body := bytes.Repeat([]byte{byte(n)}, n)
		require.NoError(t, c.Write(kindData, body[:n/2], body[n/2:]))
		f, err := c.Read()
		require.NoError(t, err)
		require.Equal(t, kindData, f.Kind)
		require.Len(t, f.Body, len(body))
		require.True(t, bytes.Equal(body, f.Body))
	}
	require.NoError(t, c.CloseWrite())
	_, err = c.Read()
	require.Equal(t, io.EOF, err)
	require.ErrorIs(t, c.Write(kindData, make([]byte, wire.MaxFrame)), mman.ErrTooLarge)
}

func TestErrorFrames(t *testing.T) {
	t.Parallel()
	s := pair(t, func(s p2p.Stream) {
		_ = wire.New(s, config()).Fail(fmt.Errorf("%w: lease 12: %s\xff", mman.ErrCapacity, strings.Repeat("ü", 400)))
	})
	c := wire.New(s, config())
	require.NoError(t, c.Send(kindGreeting, greeting{}))
	_, err := wire.Receive[greeting](c, kindGreeting)
	require.ErrorIs(t, err, mman.ErrCapacity)
	require.Equal(t, mman.RetryHere, mman.RetryOf(err))
	require.ErrorContains(t, err, "lease 12")
	require.LessOrEqual(t, len(err.Error()), 512)
}

func TestViolationsResetTheStream(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		bytes []byte
		want  error
	}{
		{"oversize", []byte{0xff, 0xff, 0xff, 0x7f, 1}, mman.ErrTooLarge},
		{"length without end", []byte{0xff, 0xff, 0xff, 0xff, 0xff}, mman.ErrTooLarge},
		{"empty frame", []byte{0}, mman.ErrProtocol},
		{"long form of a length", []byte{0x81, 0x00}, mman.ErrProtocol},
		{"cut off", []byte{10, 1, 2}, mman.ErrPeerVanished},
		{"other kind", []byte{1, 9}, mman.ErrProtocol},
		{"garbage body", []byte{3, 1, 0xff, 0xff}, mman.ErrProtocol},
		{"garbage error", []byte{3, 0, 0xff, 0xff}, mman.ErrProtocol},
		{"nothing", nil, mman.ErrProtocol},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan error, 1)
			s := pair(t, func(s p2p.Stream) {
				_, _ = s.Write(tc.bytes)
				_ = s.CloseWrite()
				_, err := io.Copy(io.Discard, s)
				ended <- err
			})
			c := wire.New(s, config())
			require.NoError(t, c.Send(kindGreeting, greeting{}))
			_, err := wire.Receive[greeting](c, kindGreeting)
			require.ErrorIs(t, err, tc.want)
			require.ErrorIs(t, <-ended, mman.ErrPeerVanished)
		})
	}
}

func TestStallsTimeOut(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		bytes []byte
		cfg   wire.Config
	}{
		{"before a frame", nil, wire.Config{MaxRead: 1024, IdleTimeout: 20 * time.Millisecond, FrameTimeout: time.Minute}},
		{"inside a frame", []byte{100, 1, 2}, wire.Config{MaxRead: 1024, FrameTimeout: 20 * time.Millisecond}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := pair(t, func(s p2p.Stream) {
				_, _ = s.Write(tc.bytes)
				_, _ = io.Copy(io.Discard, s)
			})
			c := wire.New(s, tc.cfg)
			require.NoError(t, c.Send(kindGreeting, greeting{}))
			_, err := c.Read()
			require.ErrorIs(t, err, mman.ErrTimeout)
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, config().Validate())
	for _, bad := range []wire.Config{
		{MaxRead: 0, FrameTimeout: 1},
		{MaxRead: wire.MaxFrame + 1, FrameTimeout: 1},
		{MaxRead: 1, FrameTimeout: 0},
		{MaxRead: 1, FrameTimeout: 1, IdleTimeout: -1},
	} {
		require.ErrorIs(t, bad.Validate(), mman.ErrInvalid)
	}
}

func FuzzReadFrame(f *testing.F) {
	for _, seed := range []string{"", "\x00", "\x01\x01", "\x05\x01abcd", "\x81\x00", "\xff\xff\xff\x7f", "\x03\x00\xff\xff", "\x0a\x01\x02"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		const limit = 1 << 16
		r := bufio.NewReader(bytes.NewReader(in))
		for {
			frame, err := wire.ReadFrame(r, limit)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				var coded *mman.Error
				require.ErrorAs(t, err, &coded)
				return
			}
			require.Less(t, len(frame.Body), limit)
			_, err = wire.Decode[greeting](frame)
			if err != nil {
				require.ErrorIs(t, err, mman.ErrProtocol)
			}
		}
	})
}
