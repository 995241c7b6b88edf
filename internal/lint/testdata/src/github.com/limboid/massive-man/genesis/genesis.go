package genesis

import "time"

func now() int64 { return time.Now().Unix() } // want `time.Now in the state machine` `time.Unix in the state machine`
