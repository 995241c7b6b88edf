package bench

// Grown judges what both sides of a transfer took in its quarters.
func Grown(receiver, sender [quarters]float64) error {
	return (&fetched{Here: receiver, There: sender}).grown()
}
