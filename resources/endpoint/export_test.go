package endpoint

// Undefend switches a defence off: search, decode, redirects, routes, paths, fields,
// usage, pauses or body.
func (e *Executor) Undefend(name string) {
	switch name {
	case "search":
		e.off.search = true
	case "decode":
		e.off.decode = true
	case "redirects":
		e.off.redirects = true
	case "routes":
		e.off.routes = true
	case "paths":
		e.off.paths = true
	case "fields":
		e.off.fields = true
	case "usage":
		e.off.usage = true
	case "pauses":
		e.off.pauses = true
	case "body":
		e.off.body = true
	default:
		panic(name)
	}
}
