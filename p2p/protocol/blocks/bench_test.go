package blocks_test

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/p2ptest"
	"github.com/limboid/massive-man/p2p/protocol/blocks"
)

// BenchmarkFetch moves 64 MiB between two hosts on loopback.
func BenchmarkFetch(b *testing.B) {
	for _, listen := range []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"} {
		b.Run(listen, func(b *testing.B) {
			hosts := p2ptest.New(b, 2, func(_ int, cfg *p2p.Config) { cfg.Listen = []string{listen} })
			p2ptest.Connect(b, hosts[0], hosts[1])
			store := content.NewPrivateStore(content.Memory())
			data := bytes.Repeat([]byte("massive man "), 64<<20/12)
			for i := 0; i < len(data); i += content.ChunkSize {
				data[i] = byte(i >> 20) // no two blocks alike
			}
			root, _, err := content.AddTo(b.Context(), store, bytes.NewReader(data))
			require.NoError(b, err)
			key := p2ptest.Key(5)
			d := &desk{key: ed25519.PublicKey(key[ed25519.SeedSize:]), grant: blocks.Grant{Store: store, Root: root}}
			require.NoError(b, blocks.Serve(b.Context(), hosts[1], d, config()))
			req, err := blocks.Request{Asker: hosts[0].ID(), Root: root}.Sign(p2ptest.NetworkID, key)
			require.NoError(b, err)
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				into := content.NewPrivateStore(content.Memory())
				job := blocks.Job{Sources: []blocks.Source{{Peer: hosts[1].ID(), Request: req}}, Into: into, MaxBytes: unlimited}
				_, err := blocks.Fetch(b.Context(), hosts[0], job, config())
				require.NoError(b, err)
			}
		})
	}
}
