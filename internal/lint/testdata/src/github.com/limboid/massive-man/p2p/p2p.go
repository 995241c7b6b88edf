package p2p

import "time"

func wall() time.Time { go time.Sleep(0); return time.Now() }
