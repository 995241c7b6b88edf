package allowed

import (
	"math/rand"
	"os"
	"sync"
	"time"
)

var free sync.Mutex

func testsAreFree(m map[string]float64) {
	for k, v := range m {
		_, _ = k, v
	}
	go func() { _, _ = os.Getpid(), rand.Int() }()
	time.Sleep(0)
}
