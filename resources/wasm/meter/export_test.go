package meter

// Switches turn rules off, for tests that show that the rules are needed.
type Switches struct {
	AnyImport, Naive, NoChecks, NoStack, NoRange, NoPieces, NoGrow, NoNaN, EveryNaN, OtherNaNs bool
}

// InstrumentWith is Instrument with rules turned off.
func InstrumentWith(module []byte, opts Options, sw Switches) (Metered, error) {
	return instrument(module, opts, switches{
		anyImport: sw.AnyImport, naive: sw.Naive, noChecks: sw.NoChecks, noStack: sw.NoStack, noRange: sw.NoRange,
		noPieces: sw.NoPieces, noGrow: sw.NoGrow, noNaN: sw.NoNaN, everyNaN: sw.EveryNaN, otherNaNs: sw.OtherNaNs,
	})
}
