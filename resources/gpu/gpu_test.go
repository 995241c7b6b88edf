package gpu_test

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/resources/gpu"
)

func TestDetect(t *testing.T) {
	t.Parallel()
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for name, one := range map[string]struct {
		root fstest.MapFS
		want []string
	}{
		"none":             {fstest.MapFS{}, nil},
		"a virtual one":    {fstest.MapFS{"sys/class/drm/card0/device/vendor": file("0x1af4\n")}, nil},
		"one and its port": {fstest.MapFS{"sys/class/drm/card0/device/vendor": file("0x1002\n"), "sys/class/drm/card0-DP-1/device/vendor": file("0x1002\n"), "sys/class/drm/renderD128/device/vendor": file("0x1002\n")}, []string{"amd"}},
		"two makers":       {fstest.MapFS{"sys/class/drm/card0/device/vendor": file("0x8086\n"), "sys/class/drm/card1/device/vendor": file("0x10de\n"), "proc/driver/nvidia/gpus/0000:01:00.0/information": file("")}, []string{"intel", "nvidia"}},
		"without a screen": {fstest.MapFS{"proc/driver/nvidia/gpus/0000:01:00.0/information": file(""), "proc/driver/nvidia/gpus/0000:02:00.0/information": file("")}, []string{"nvidia", "nvidia"}},
		"no vendor":        {fstest.MapFS{"sys/class/drm/card0/dev": file("226:0")}, nil},
	} {
		got, err := gpu.Detect(one.root)
		require.NoError(t, err, name)
		require.Equal(t, one.want, got, name)
	}
}
