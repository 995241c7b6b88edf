package consensus

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/cometbft/cometbft/libs/log"
)

const (
	// haltMessage is what CometBFT logs when its consensus goroutine ends with
	// a panic. It tells nobody in any other way.
	haltMessage = "CONSENSUS FAILURE!!!"
	// syncMessage is what it logs when no state could be fetched, after which
	// the node would do nothing for ever.
	syncMessage = "State sync failed"
	// blockMessage is what it logs of a block that was fetched and is not valid. It
	// takes that for the fault of those who sent it and asks others, also when two
	// thirds of the validators signed the block and this ledger has gone another way.
	blockMessage = "Error in validation"

	logValueBytes = 512
	logStackBytes = 8 << 10
)

// logger writes CometBFT's log into ours. Its INFO is a line for each step of
// each block, so that becomes DEBUG; its ERROR is mostly a peer's fault and
// never asks for an operator, so it becomes WARN, or DEBUG where any stranger
// can cause it. Only a halt is an ERROR.
type logger struct {
	out   *slog.Logger
	noisy bool // of a module that talks to strangers
	// ending is set while the node stops, when services complain about one
	// another's end.
	ending *atomic.Bool
	// halted is told what consensus ended with.
	halted func(reason string)
}

// NewLogger returns a logger of CometBFT for a part that runs without consensus
// and talks to strangers.
func NewLogger(out *slog.Logger) log.Logger {
	return newLogger(out, new(atomic.Bool), func(string) {}).With("module", "rpc")
}

func newLogger(out *slog.Logger, ending *atomic.Bool, halted func(string)) logger {
	return logger{out: out, ending: ending, halted: halted}
}

// Debug implements log.Logger.
func (l logger) Debug(msg string, keyvals ...any) { l.write(slog.LevelDebug, msg, keyvals) }

// Info implements log.Logger.
func (l logger) Info(msg string, keyvals ...any) { l.write(slog.LevelDebug, msg, keyvals) }

// Warn implements log.Logger.
func (l logger) Warn(msg string, keyvals ...any) { l.write(slog.LevelWarn, msg, keyvals) }

// Error implements log.Logger.
func (l logger) Error(msg string, keyvals ...any) {
	reason := "no reason given"
	var told []any // all but the stack, which is for developers
	for i := 0; i+1 < len(keyvals); i += 2 {
		if keyvals[i] == "err" {
			reason = cut(fmt.Sprint(keyvals[i+1]), logValueBytes)
		}
		if keyvals[i] != "stack" {
			told = append(told, keyvals[i], keyvals[i+1])
		}
	}
	switch {
	case msg == haltMessage, msg == blockMessage && diverges(reason):
		l.write(slog.LevelDebug, "where consensus halted", keyvals)
		l.out.Error("consensus halted", attrs(told)...)
		l.halted(reason)
	case msg == syncMessage:
		l.halted(reason + "; no state could be fetched from others: check sync in config.yaml, or join again")
	default:
		l.write(slog.LevelWarn, msg, keyvals)
	}
}

// diverges reports whether a block is not valid for what this node's own ledger made of
// the blocks before it. CometBFT looks at that only when two thirds of the validators
// have signed the block.
func diverges(reason string) bool {
	for _, field := range []string{"AppHash", "LastResultsHash", "ConsensusHash", "ValidatorsHash", "NextValidatorsHash"} {
		if strings.Contains(reason, "wrong Block.Header."+field+".") {
			return true
		}
	}
	return false
}

// With implements log.Logger.
func (l logger) With(keyvals ...any) log.Logger {
	for i := 0; i+1 < len(keyvals); i += 2 {
		if keyvals[i] == "module" {
			switch fmt.Sprint(keyvals[i+1]) {
			case "p2p", "pex", "mempool", "rpc", "rpc-server", "events", "statesync", "blocksync":
				l.noisy = true
			}
		}
	}
	l.out = l.out.With(attrs(keyvals)...)
	return l
}

func (l logger) write(level slog.Level, msg string, keyvals []any) {
	if level > slog.LevelDebug && !l.noisy && !l.ending.Load() {
		l.out.Warn(msg, attrs(keyvals)...) //nolint:sloglint // the words are CometBFT's
		return
	}
	if l.out.Enabled(nil, slog.LevelDebug) { //nolint:staticcheck // CometBFT's loggers have no context
		l.out.Debug(msg, attrs(keyvals)...) //nolint:sloglint // the words are CometBFT's
	}
}

// attrs turns pairs into attributes. Their values may come from peers: each is
// written out now, because CometBFT goes on to change it, and cut.
func attrs(keyvals []any) []any {
	out := make([]any, 0, (len(keyvals)+1)/2)
	for i := 0; i+1 < len(keyvals); i += 2 {
		key := strings.ReplaceAll(strings.ToLower(fmt.Sprint(keyvals[i])), " ", "_")
		switch key {
		case slog.TimeKey, slog.LevelKey, slog.MessageKey, slog.SourceKey:
			key = "comet_" + key
		}
		limit := logValueBytes
		if key == "stack" {
			limit = logStackBytes
		}
		switch v := keyvals[i+1].(type) {
		case int64:
			out = append(out, slog.Int64(key, v))
		case int32:
			out = append(out, slog.Int64(key, int64(v)))
		case int:
			out = append(out, slog.Int(key, v))
		case bool:
			out = append(out, slog.Bool(key, v))
		default:
			out = append(out, slog.String(key, cut(fmt.Sprint(v), limit)))
		}
	}
	return out
}

func cut(s string, limit int) string {
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}
