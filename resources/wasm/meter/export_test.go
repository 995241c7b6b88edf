package meter

// Switches turn rules off, for tests that show that the rules are needed.
type Switches struct {
	AnyImport, AnyName, AnySize, Threads, Naive, NoChecks, NoStack, NoRange, NoPieces, NoPauses, NoGrow, NoNaN, NoStart, NoEntry, NoMends, Stepwise, EveryNaN, OtherNaNs bool
}

// InstrumentWith is Instrument with rules turned off.
func InstrumentWith(module []byte, opts Options, sw Switches) (Metered, error) {
	return instrument(module, opts, switches{
		anyImport: sw.AnyImport, anyName: sw.AnyName, anySize: sw.AnySize, threads: sw.Threads, naive: sw.Naive, noChecks: sw.NoChecks, noStack: sw.NoStack, noRange: sw.NoRange,
		noPieces: sw.NoPieces, noPauses: sw.NoPauses, noGrow: sw.NoGrow, noNaN: sw.NoNaN, noStart: sw.NoStart, noEntry: sw.NoEntry, noMends: sw.NoMends, stepwise: sw.Stepwise, everyNaN: sw.EveryNaN, otherNaNs: sw.OtherNaNs,
	})
}
