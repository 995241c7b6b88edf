package container_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// imageOf makes an archive of one layer, with what else a configuration says, and
// with names.
func imageOf(t *testing.T, layer []byte, process string, names []string) []byte {
	t.Helper()
	sum := sha256.Sum256(layer)
	config := fmt.Sprintf(`{"architecture":%q,"os":"linux","config":{%s},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}`,
		runtime.GOARCH, process, hex.EncodeToString(sum[:]))
	tags := "null"
	if len(names) > 0 {
		tags = fmt.Sprintf("[%q]", names[0])
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct {
		name    string
		content []byte
	}{
		{"config.json", []byte(config)},
		{"layer.tar", layer},
		{"manifest.json", []byte(`[{"Config":"config.json","RepoTags":` + tags + `,"Layers":["layer.tar"]}]`)},
	} {
		require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.content)), Mode: 0o644}))
		_, err := w.Write(f.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}
