package meter

// Switches turn rules off, for tests that show that the rules are needed.
type Switches struct {
	AnyImport, Naive, NoChecks, NoStack, NoRange, NoPieces, NoGrow, NoNaN, EveryNaN, OtherNaNs bool
}

// InstrumentWith is Instrument with rules turned off.
func InstrumentWith(module []byte, opts Options, sw Switches) (Metered, error) {
	return instrument(module, opts, switches{
		sw.AnyImport, sw.Naive, sw.NoChecks, sw.NoStack, sw.NoRange, sw.NoPieces, sw.NoGrow, sw.NoNaN, sw.EveryNaN, sw.OtherNaNs,
	})
}
