package clock

import "time"

const grace = 3 * time.Second

func reads() int64 {
	t := time.Now()                  // want `time.Now in the state machine`
	_ = time.Since(t)                // want `time.Since in the state machine`
	_ = time.Until(t)                // want `time.Until in the state machine`
	time.Sleep(grace)                // want `time.Sleep in the state machine`
	<-time.After(grace)              // want `time.After in the state machine` `channel receive`
	_ = time.Tick(grace)             // want `time.Tick in the state machine`
	_ = time.NewTimer(grace)         // want `time.NewTimer in the state machine`
	_ = time.NewTicker(grace)        // want `time.NewTicker in the state machine`
	time.AfterFunc(grace, func() {}) // want `time.AfterFunc in the state machine`
	return t.Unix()                  // want `time.Unix in the state machine`
}

type dated struct {
	at time.Time // want `time.Time in the state machine`
}

func value() func() time.Time { // want `time.Time in the state machine`
	return time.Now // want `time.Now in the state machine`
}

func allowed(d time.Duration) int64 { return (d + grace).Milliseconds() }

func seconds(d time.Duration) int64 { return int64(d.Seconds()) } // want `float in the state machine`
