package bench

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Metric is one figure beside its reference.
type Metric struct {
	Value     float64 `json:"value"`
	Unit      string  `json:"unit"`
	Reference float64 `json:"reference"`
	// Ratio is value / reference, 0 without a reference.
	Ratio float64 `json:"ratio"`
}

// Report is the result of one benchmark.
type Report struct {
	Bench   string            `json:"bench"`
	Machine string            `json:"machine"`
	Metrics map[string]Metric `json:"metrics"`
	// Void, if not empty, is why the figures of this run compare nothing.
	Void string `json:"void,omitempty"`
	// Notes say what was left out and why, a sentence each.
	Notes []string `json:"notes,omitempty"`

	told func(string) // nil: nobody follows
}

func newReport(name string) *Report {
	return &Report{Bench: name, Machine: machine(), Metrics: make(map[string]Metric)}
}

func machine() string {
	model := "unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				model = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
				break
			}
		}
	}
	return fmt.Sprintf("%s/%s, %d cores, %s, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), model, runtime.Version())
}

func (r *Report) set(name, unit string, value, reference float64) {
	m := Metric{Value: value, Unit: unit, Reference: reference}
	if reference > 0 {
		m.Ratio = value / reference
	}
	r.Metrics[name] = m
	r.tell("%s %.2f %s, reference %.2f, ratio %.2f", name, m.Value, unit, reference, m.Ratio)
}

// tell says what goes on to whoever follows.
func (r *Report) tell(format string, args ...any) {
	if r.told != nil {
		r.told(fmt.Sprintf(format, args...))
	}
}

// String is the report as a table.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s\n", r.Bench, r.Machine)
	for _, name := range slices.Sorted(maps.Keys(r.Metrics)) {
		m := r.Metrics[name]
		fmt.Fprintf(&b, "%-24s %10.2f %-6s", name, m.Value, m.Unit)
		if m.Reference > 0 {
			fmt.Fprintf(&b, " reference %10.2f, ratio %.2f", m.Reference, m.Ratio)
		}
		b.WriteByte('\n')
	}
	if r.Void != "" {
		fmt.Fprintf(&b, "void: %s\n", r.Void)
	}
	for _, note := range r.Notes {
		b.WriteString(note + "\n")
	}
	return b.String()
}

// quantile returns the q-quantile in ms. It sorts the slice.
func quantile(times []time.Duration, q float64) float64 {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	i := min(int(q*float64(len(times))), len(times)-1)
	return float64(times[i].Microseconds()) / 1000
}

// residentMiB returns the resident memory of a process.
func residentMiB(pid int) (float64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b))
	pages, err := strconv.ParseFloat(fields[1], 64)
	return pages * float64(os.Getpagesize()) / (1 << 20), err
}

// anonymousMiB returns the resident memory of a process that is no mapped file, 0
// where the system does not tell.
func anonymousMiB(pid int) float64 {
	return float64(kernelKiB("/proc/"+strconv.Itoa(pid)+"/status", "RssAnon:")) / 1024
}

// availableMemory returns how many bytes programs can still take, 0 where the
// system does not tell.
func availableMemory() int64 { return kernelKiB("/proc/meminfo", "MemAvailable:") << 10 }

// kernelKiB returns a line's figure from a file of the kernel, 0 when it is not
// there.
func kernelKiB(file, name string) int64 {
	b, err := os.ReadFile(file) //nolint:gosec // of the kernel
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err == nil {
				return kib
			}
		}
	}
	return 0
}
