package container_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/resources/container"
)

// TestUsageOfBothControlGroups: what Docker tells of a container is read alike where the
// kernel has control groups of version 1 and of version 2. The latter has no most memory
// ever used; its failures are the times that the kernel ran out of what was allowed.
func TestUsageOfBothControlGroups(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		memory string
		strict bool
	}{
		"version 1":                {`{"usage":1048576,"max_usage":2097152,"limit":67108864,"stats":{"total_rss":4096}}`, false},
		"version 1, at its limit":  {`{"usage":1048576,"max_usage":67108864,"limit":67108864}`, true},
		"version 1, refused":       {`{"usage":1048576,"max_usage":2097152,"failcnt":3,"limit":67108864}`, true},
		"version 2":                {`{"usage":1048576,"limit":67108864,"stats":{"anon":4096,"file":0}}`, false},
		"version 2, out of memory": {`{"usage":1048576,"failcnt":1,"limit":67108864}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Api-Version", "1.41")
				w.Header().Set("Content-Type", "application/json")
				if strings.HasSuffix(r.URL.Path, "/containers/x/stats") {
					_, _ = fmt.Fprintf(w, `{"cpu_stats":{"cpu_usage":{"total_usage":1500000}},"memory_stats":%s}`, c.memory)
				}
			}))
			t.Cleanup(engine.Close)
			cpu, strict, err := container.Measure(t.Context(), strings.Replace(engine.URL, "http://", "tcp://", 1), "x")
			require.NoError(t, err)
			require.Equal(t, 1500*time.Microsecond, cpu)
			require.Equal(t, c.strict, strict)
		})
	}
}
