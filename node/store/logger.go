package store

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// logger passes the database library's lines on. What the library calls
// information is of use to developers only; its debug lines are too many.
type logger struct{ to *slog.Logger }

func (l logger) Errorf(format string, args ...any)   { l.line(slog.LevelError, format, args) }
func (l logger) Warningf(format string, args ...any) { l.line(slog.LevelWarn, format, args) }
func (l logger) Infof(format string, args ...any)    { l.line(slog.LevelDebug, format, args) }
func (logger) Debugf(string, ...any)                 {}

func (l logger) line(level slog.Level, format string, args []any) {
	ctx := context.Background() //nolint:forbidigo // the library's logger has no context to pass on
	if l.to.Enabled(ctx, level) {
		l.to.LogAttrs(ctx, level, "database", slog.String("line", strings.TrimSpace(fmt.Sprintf(format, args...))))
	}
}
