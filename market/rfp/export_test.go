package rfp

// Undefended returns the RFP with a defence switched off: opening, windows, twice,
// remedy, bond or ack; "" for none.
func (r RFP) Undefended(name string) RFP {
	switch name {
	case "":
	case "opening":
		r.off.opening = true
	case "windows":
		r.off.windows = true
	case "twice":
		r.off.twice = true
	case "remedy":
		r.off.remedy = true
	case "bond":
		r.off.bond = true
	case "ack":
		r.off.ack = true
	default:
		panic(name)
	}
	return r
}
