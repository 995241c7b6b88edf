package lint

import "strings"

const module = "github.com/limboid/massive-man"

// scope is what one part of the state machine is held to.
type scope struct {
	// imports maps a refused import path to the reason; a path that ends in "/"
	// stands for everything below it.
	imports []refusal
	// times are the names of package time that may be used, with the methods of
	// the types among them.
	times []string
	// clocked allows methods of time.Time that read no clock and no time zone.
	clocked bool
}

type refusal struct{ path, why string }

// Guards reports whether the package with this import path is held to the
// rules.
func Guards(pkgPath string) bool { return find(pkgPath) != nil }

// find returns the scope of a package, nil when it is free.
func find(pkgPath string) *scope {
	rel, ok := strings.CutPrefix(strings.TrimSuffix(pkgPath, "_test"), module)
	if !ok {
		return nil
	}
	if strings.HasSuffix(rel, "test") {
		return nil // abcitest, statetest: a harness; x.test: the main package that go test writes
	}
	rel = strings.TrimPrefix(rel, "/")
	first, rest, _ := strings.Cut(rel, "/")
	switch {
	case first == "market", first == "genesis":
		return transition()
	case first == "abci" && rest == "":
		return application()
	case first == "abci":
		return transition()
	case rel == "resources", rel == "":
		return vocabulary()
	}
	return nil
}

// transition is for the rules that every node computes alike: pure functions of
// committed bytes.
func transition() *scope {
	return &scope{
		imports: append(impure(),
			refusal{"context", "a deadline is a clock; a transition ends by gas"},
			refusal{"sync", "there is nothing to guard: transitions run one after the other"},
			refusal{"sync/", "there is nothing to guard: transitions run one after the other"},
			refusal{"log", "pure code returns reasons, it does not log"},
			refusal{"log/", "pure code returns reasons, it does not log"},
			refusal{"runtime/", "what the runtime says differs on every node"},
		),
		times: durations(),
	}
}

// vocabulary is for the words that transitions are written in. The Executor
// interface is among them, so context is allowed.
func vocabulary() *scope {
	s := transition()
	kept := s.imports[:0]
	for _, r := range s.imports {
		if r.path != "context" {
			kept = append(kept, r)
		}
	}
	s.imports = kept
	return s
}

// application is for package abci itself: CometBFT calls it on four connections
// at once, so it may lock, and hands it block time as a time.Time, which it
// turns into an integer. It logs, and it prints the stack of a panic.
func application() *scope {
	return &scope{
		imports: impure(),
		times:   append(durations(), "Time", "Unix", "UnixMilli", "UnixMicro", "UTC"),
		clocked: true,
	}
}

func durations() []string {
	return []string{"Duration", "ParseDuration", "Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour"}
}

func impure() []refusal {
	return []refusal{
		{"C", "no foreign code in the state machine"},
		{"crypto/rand", "randomness comes from the beacon"},
		{"encoding/gob", "gob writes maps in any order"},
		{"expvar", "no globals in the state machine"},
		{"golang.org/x/exp/", "standard library"},
		{"golang.org/x/sync/", "no goroutines in the state machine"},
		{"golang.org/x/sys/", "no I/O in the state machine"},
		{"hash/maphash", "its seed differs in every process"},
		{"math/rand", "randomness comes from the beacon"},
		{"math/rand/", "randomness comes from the beacon"},
		{"net", "no I/O in the state machine"},
		{"net/http", "no I/O in the state machine"},
		{"net/http/", "no I/O in the state machine"},
		{"net/rpc", "no I/O in the state machine"},
		{"os", "no I/O in the state machine"},
		{"os/", "no I/O in the state machine"},
		{"plugin", "no foreign code in the state machine"},
		{"reflect", "it ranges over maps unsorted and shows addresses"},
		{"runtime", "what the runtime says differs on every node"},
		{"runtime/pprof", "what the runtime says differs on every node"},
		{"runtime/trace", "what the runtime says differs on every node"},
		{"syscall", "no I/O in the state machine"},
		{"testing", "only tests test"},
		{"testing/", "only tests test"},
		{"github.com/tetratelabs/wazero", "no guest code in the state machine"},
		{"github.com/tetratelabs/wazero/", "no guest code in the state machine"},
		{"unique", "its handles are addresses"},
		{"unsafe", "no addresses in the state machine"},
		{"weak", "when memory is freed differs on every node"},
	}
}

// refused returns why path may not be imported, "" when it may.
func (s *scope) refused(path string) string {
	for _, r := range s.imports {
		if path == r.path || strings.HasSuffix(r.path, "/") && strings.HasPrefix(path, r.path) {
			return r.why
		}
	}
	return ""
}
