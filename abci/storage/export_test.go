package storage

// Undefended returns the module without a defence: verify, window, slash or repair.
func (m Module) Undefended(name string) Module {
	for flag, off := range map[string]*bool{"verify": &m.off.verify, "window": &m.off.window, "slash": &m.off.slash, "repair": &m.off.repair} {
		if flag == name {
			*off = true
			return m
		}
	}
	panic(name)
}
