package abci

import (
	_ "crypto/rand" // want `import of crypto/rand`
	"log/slog"
	_ "os" // want `import of os in`
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

type application struct {
	mu     sync.RWMutex
	height atomic.Int64
	log    *slog.Logger
	cache  sync.Map
}

func (a *application) blockTime(t time.Time) (ms int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer func() {
		if r := recover(); r != nil {
			a.log.Error("panic", slog.String("stack", string(debug.Stack())))
		}
	}()
	_ = t.Local() // want `time.Local in the state machine`
	return t.UTC().UnixMilli()
}

func (a *application) wrong(m map[string]int) int64 {
	go a.blockTime(time.Time{}) // want `go statement`
	for _, v := range m {       // want `range over a map`
		a.height.Add(int64(v))
	}
	a.cache.Range(func(any, any) bool { return true }) // want `sync.Map.Range`
	x := 1.5                                           // want `float in the state machine`
	_ = x                                              // want `float in the state machine`
	return time.Now().Unix()                           // want `time.Now in the state machine`
}
