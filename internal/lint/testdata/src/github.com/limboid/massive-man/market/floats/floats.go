package floats

import (
	"math"
	"strconv"
)

type price float64 // want `float in the state machine`

type quote struct {
	rate float32    // want `float in the state machine`
	list []float64  // want `float in the state machine`
	z    complex128 // want `float in the state machine`
}

const half = 0.5 // want `float in the state machine`

func compute(n int64) int64 {
	x := float64(n)                     // want `float in the state machine`
	_ = math.Sqrt(x)                    // want `float in the state machine`
	million := int64(1e6)               // want `float in the state machine`
	y, _ := strconv.ParseFloat("1", 64) // want `float in the state machine`
	_ = y                               // want `float in the state machine`
	var p price                         // want `float in the state machine`
	for _, f := range (quote{}).list {  // want `float in the state machine`
		p += price(f) // want `float in the state machine` `float in the state machine`
	}
	return million
}

func allowed(a, b uint64) uint64 { return a*3/2 + b<<1 + math.MaxInt64 }
