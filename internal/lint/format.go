package lint

import (
	"go/ast"
	"go/constant"
	"go/types"
	"strings"
)

// format refuses texts that hold an address of memory or a whole map: they end
// up in events, logs and errors of a transaction result, which every node must
// write alike.
func (c *checker) format(call *ast.CallExpr, name string) {
	first, formatted := 0, false
	switch name {
	case "Sprint", "Sprintln", "Print", "Println":
	case "Fprint", "Fprintln", "Append", "Appendln":
		first = 1
	case "Sprintf", "Errorf", "Printf":
		first, formatted = 1, true
	case "Fprintf", "Appendf":
		first, formatted = 2, true
	default:
		return
	}
	if len(call.Args) < first {
		return // f(g()) with a g of many results: not used with formats
	}
	var verbs string
	if formatted {
		verbs = c.verbs(call.Args[first-1])
		if strings.Contains(verbs, "p") {
			c.pass.Reportf(call.Pos(), "%%p in the state machine: addresses differ on every node")
			return
		}
	}
	for i, arg := range call.Args[first:] {
		if i < len(verbs) && verbs[i] == 'T' {
			continue // the name of the type only
		}
		if what := unstable(c.pass.TypesInfo.TypeOf(arg), 0); what != "" {
			c.pass.Reportf(arg.Pos(), "%s formatted in the state machine: print its fields one by one", what)
		}
	}
}

// verbs returns the verbs of a constant format, one letter for each operand, ""
// when the format is no constant or counts its operands itself.
func (c *checker) verbs(format ast.Expr) string {
	v := c.pass.TypesInfo.Types[format].Value
	if v == nil || v.Kind() != constant.String {
		return ""
	}
	var out strings.Builder
	rest := constant.StringVal(v)
	for {
		_, after, found := strings.Cut(rest, "%")
		if !found {
			return out.String()
		}
		verb := strings.TrimLeft(after, "+-# 0123456789.")
		switch {
		case verb == "":
			return out.String()
		case verb[0] == '*' || verb[0] == '[':
			return ""
		case verb[0] != '%':
			out.WriteByte(verb[0])
		}
		rest = verb[1:]
	}
}

// unstable names what in t prints differently on two nodes, "" when nothing.
func unstable(t types.Type, depth int) string {
	const maxDepth = 8
	if t == nil || depth > maxDepth || printsItself(t) {
		return ""
	}
	switch u := t.Underlying().(type) {
	case *types.Map:
		return "a map"
	case *types.Pointer:
		return "a pointer"
	case *types.Chan:
		return "a channel"
	case *types.Signature:
		return "a function"
	case *types.Basic:
		if u.Kind() == types.UnsafePointer || u.Kind() == types.Uintptr {
			return "an address"
		}
	case *types.Slice:
		return unstable(u.Elem(), depth+1)
	case *types.Array:
		return unstable(u.Elem(), depth+1)
	case *types.Struct:
		for f := range u.Fields() {
			if what := unstable(f.Type(), depth+1); what != "" {
				return what
			}
		}
	}
	return ""
}

// printsItself reports whether fmt calls a method of t instead of looking
// inside.
func printsItself(t types.Type) bool {
	methods := types.NewMethodSet(t)
	for _, name := range []string{"Error", "String", "Format"} {
		if sel := methods.Lookup(nil, name); sel != nil {
			if fn, ok := sel.Obj().(*types.Func); ok && ast.IsExported(fn.Name()) {
				return true
			}
		}
	}
	return false
}
