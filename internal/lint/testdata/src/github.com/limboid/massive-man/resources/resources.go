package resources

import (
	"context"
	_ "os" // want `import of os in`
	"time"
)

type limits struct{ wall time.Duration }

type executor interface {
	run(ctx context.Context, l limits) error
}
