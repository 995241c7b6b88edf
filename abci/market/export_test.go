package market

// Undefended returns the module without a defence: window, owed, accept, expiry,
// cursor or deposit.
func (m Module) Undefended(name string) Module {
	for flag, off := range map[string]*bool{
		"window": &m.off.window, "owed": &m.off.owed, "accept": &m.off.accept,
		"expiry": &m.off.expiry, "cursor": &m.off.cursor, "deposit": &m.off.deposit,
	} {
		if flag == name {
			*off = true
			return m
		}
	}
	panic(name)
}

// Through returns the module with another bank, or a new one when m is none.
func (m Module) Through(bank Bank) Module {
	if m.offers == nil {
		m.offers = &offerCache{}
	}
	m.bank = bank
	return m
}
