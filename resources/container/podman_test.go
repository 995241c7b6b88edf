package container_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/container"
)

// TestPodmansProfile: what mounts and makes namespaces is taken from a profile, and a
// profile that is not understood is not used.
func TestPodmansProfile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "seccomp.json")
	_, err := container.Restrict([]string{filepath.Join(dir, "none"), path})
	require.ErrorIs(t, err, mman.ErrUnsupported, "there is none")
	for _, bad := range []string{"", "{}", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[]}`, `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[1]}`, `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":1}]}`} {
		require.NoError(t, os.WriteFile(path, []byte(bad), 0o600))
		_, err := container.Restrict([]string{path})
		require.ErrorIs(t, err, mman.ErrUnsupported, bad)
	}
	require.NoError(t, os.WriteFile(path, []byte(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
		{"names":["read","clone","clone3","mount","unshare","write"],"action":"SCMP_ACT_ALLOW"},
		{"names":["mount"],"action":"SCMP_ACT_ERRNO"}]}`), 0o600))
	got, err := container.Restrict([]string{filepath.Join(dir, "none"), path})
	require.NoError(t, err)
	var profile struct {
		Syscalls []struct {
			Names []string `json:"names"`
			Args  []struct {
				Value    uint64 `json:"value"`
				ValueTwo uint64 `json:"valueTwo"`
			} `json:"args"`
		} `json:"syscalls"`
	}
	require.NoError(t, json.Unmarshal(got, &profile))
	require.Len(t, profile.Syscalls, 3)
	require.Equal(t, []string{"clone"}, profile.Syscalls[0].Names)
	require.EqualValues(t, 0x7e020000, profile.Syscalls[0].Args[0].Value, "all flags that make namespaces")
	require.Zero(t, profile.Syscalls[0].Args[0].ValueTwo)
	require.Equal(t, []string{"read", "write"}, profile.Syscalls[1].Names)
	require.Equal(t, []string{"mount"}, profile.Syscalls[2].Names)
}
