package abcitest

import (
	"sync"
	"time"
)

var mu sync.Mutex

func wall() time.Time { return time.Now() }
