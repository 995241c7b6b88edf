package lint

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// Analyzer reports nondeterminism in the packages of the state machine. It
// keeps nothing between packages and is safe for concurrent use.
//
//nolint:gochecknoglobals // the analysis framework identifies an analyzer by its address
var Analyzer = &analysis.Analyzer{
	Name: "determinism",
	Doc:  "refuse whatever could make two nodes compute different states",
	URL:  "https://" + module,
	Run:  run,
}

func run(pass *analysis.Pass) (any, error) {
	s := find(pass.Pkg.Path())
	if s == nil {
		return nil, nil
	}
	for _, f := range pass.Files {
		if strings.HasSuffix(pass.Fset.Position(f.Package).Filename, "_test.go") {
			continue
		}
		c := &checker{pass: pass, scope: s, sorted: map[ast.Node]bool{}}
		c.imports(f)
		ast.Inspect(f, c.visit)
	}
	return nil, nil
}

const floatText = "float in the state machine: use integers, fixed point or mman.Amount"

// checker walks one file.
type checker struct {
	pass  *analysis.Pass
	scope *scope
	// sorted holds the map ranges and the calls of maps.Keys whose order is
	// undone by what follows them. Parents are visited first, so they are known
	// before they are reached.
	sorted map[ast.Node]bool
}

func (c *checker) imports(f *ast.File) {
	for _, spec := range f.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // does not parse: the compiler says so
		}
		if why := c.scope.refused(path); why != "" {
			c.pass.Reportf(spec.Pos(), "import of %s in the state machine: %s", path, why)
		}
	}
}

// visit reports n and says whether to go on below it.
func (c *checker) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.BlockStmt:
		c.markSorted(n.List)
	case *ast.CaseClause:
		c.markSorted(n.Body)
	case *ast.RangeStmt:
		c.rangeStmt(n)
	case *ast.GoStmt:
		c.pass.Reportf(n.Pos(), "go statement in the state machine: transitions run one after the other")
	case *ast.SelectStmt:
		c.pass.Reportf(n.Pos(), "select in the state machine: it chooses at random")
	case *ast.SendStmt:
		c.pass.Reportf(n.Pos(), "channel send in the state machine")
	case *ast.ChanType:
		c.pass.Reportf(n.Pos(), "channel type in the state machine")
	case *ast.UnaryExpr:
		if n.Op == token.ARROW {
			c.pass.Reportf(n.Pos(), "channel receive in the state machine")
		}
	case *ast.Ident:
		c.ident(n)
	case *ast.CallExpr:
		c.call(n)
	}
	if e, ok := n.(ast.Expr); ok && c.isFloat(e) {
		c.pass.Reportf(n.Pos(), floatText)
		return false // once for each outermost expression
	}
	return true
}

// isFloat reports whether e is a floating-point literal, type or value, or a
// call that returns one.
func (c *checker) isFloat(e ast.Expr) bool {
	if lit, ok := e.(*ast.BasicLit); ok && (lit.Kind == token.FLOAT || lit.Kind == token.IMAG) {
		return true
	}
	if id, ok := e.(*ast.Ident); ok && c.pass.TypesInfo.Defs[id] != nil {
		return false // its type or its value is reported
	}
	t := c.pass.TypesInfo.TypeOf(e)
	tuple, ok := t.(*types.Tuple)
	if !ok {
		return floating(t)
	}
	for v := range tuple.Variables() {
		if floating(v.Type()) {
			return true
		}
	}
	return false
}

func floating(t types.Type) bool {
	if t == nil {
		return false
	}
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&(types.IsFloat|types.IsComplex) != 0
}

// ident checks uses of package time and of iterators over maps.
func (c *checker) ident(id *ast.Ident) {
	obj := c.pass.TypesInfo.Uses[id]
	if obj == nil || obj.Pkg() == nil {
		return
	}
	switch obj.Pkg().Path() {
	case "time":
		if !c.timeAllowed(obj) {
			c.pass.Reportf(id.Pos(), "time.%s in the state machine: the only clock is block height and block time as an integer", obj.Name())
		}
	case "maps":
		switch obj.Name() {
		case "Keys", "Values":
			if !c.sorted[id] {
				c.pass.Reportf(id.Pos(), "maps.%s in the state machine without slices.Sorted around it", obj.Name())
			}
		case "All", "DeleteFunc", "EqualFunc":
			c.pass.Reportf(id.Pos(), "maps.%s in the state machine: it visits a map in random order", obj.Name())
		}
	case "sync":
		if recv := receiver(obj); recv == "Map" && obj.Name() == "Range" {
			c.pass.Reportf(id.Pos(), "sync.Map.Range in the state machine: it visits a map in random order")
		}
	}
}

func (c *checker) timeAllowed(obj types.Object) bool {
	switch recv := receiver(obj); recv {
	case "":
		return slices.Contains(c.scope.times, obj.Name())
	case "Duration":
		return true
	case "Time":
		return c.scope.clocked && obj.Name() != "Local" && obj.Name() != "In"
	default:
		return false
	}
}

// receiver returns the name of the type that obj is a method of, "" when it is
// no method.
func receiver(obj types.Object) string {
	fn, ok := obj.(*types.Func)
	if !ok || fn.Signature().Recv() == nil {
		return ""
	}
	t := fn.Signature().Recv().Type()
	if p, isPointer := t.(*types.Pointer); isPointer {
		t = p.Elem()
	}
	if named, isNamed := t.(*types.Named); isNamed {
		return named.Obj().Name()
	}
	return "?"
}

func (c *checker) rangeStmt(n *ast.RangeStmt) {
	for _, e := range []ast.Expr{n.Key, n.Value} {
		if id, ok := e.(*ast.Ident); ok && n.Tok == token.DEFINE && floating(c.pass.TypesInfo.TypeOf(id)) {
			c.pass.Reportf(id.Pos(), floatText)
		}
	}
	t := c.pass.TypesInfo.TypeOf(n.X)
	switch {
	case n.Key == nil && n.Value == nil, t == nil:
		return // only counts
	case isMap(t) && !c.sorted[n]:
		c.pass.Reportf(n.Pos(), "range over a map in the state machine: collect the keys, sort them in the next statement, then range over them")
	case isChan(t):
		c.pass.Reportf(n.Pos(), "range over a channel in the state machine")
	}
}

func isChan(t types.Type) bool {
	_, ok := t.Underlying().(*types.Chan)
	return ok
}

// isMap reports whether t is a map or a type parameter that may be one.
func isMap(t types.Type) bool {
	if iface, ok := t.Underlying().(*types.Interface); ok {
		for embedded := range iface.EmbeddedTypes() {
			union, isUnion := embedded.(*types.Union)
			if !isUnion {
				continue
			}
			for term := range union.Terms() {
				if isMap(term.Type()) {
					return true
				}
			}
		}
		return false
	}
	_, ok := t.Underlying().(*types.Map)
	return ok
}

// markSorted finds the one permitted range over a map:
//
//	for k := range m {
//		keys = append(keys, k)
//	}
//	slices.Sort(keys)
func (c *checker) markSorted(list []ast.Stmt) {
	for i := 1; i < len(list); i++ {
		loop, ok := list[i-1].(*ast.RangeStmt)
		if !ok || !blank(loop.Value) || len(loop.Body.List) != 1 {
			continue
		}
		keys := c.appended(loop)
		if keys != nil && c.sortedBy(list[i]) == keys {
			c.sorted[loop] = true
		}
	}
}

func blank(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return e == nil || ok && id.Name == "_"
}

// appended returns the slice that loop's only statement appends its key to.
func (c *checker) appended(loop *ast.RangeStmt) types.Object {
	set, ok := loop.Body.List[0].(*ast.AssignStmt)
	if !ok || set.Tok != token.ASSIGN || len(set.Lhs) != 1 || len(set.Rhs) != 1 {
		return nil
	}
	add, ok := set.Rhs[0].(*ast.CallExpr)
	if !ok || len(add.Args) != 2 || add.Ellipsis.IsValid() {
		return nil
	}
	fn, ok := add.Fun.(*ast.Ident)
	if !ok || c.pass.TypesInfo.Uses[fn] != types.Universe.Lookup("append") {
		return nil
	}
	keys := c.object(set.Lhs[0])
	if keys == nil || keys != c.object(add.Args[0]) || c.object(add.Args[1]) == nil || c.object(add.Args[1]) != c.object(loop.Key) {
		return nil
	}
	return keys
}

// object returns what an identifier stands for, nil for any other expression.
func (c *checker) object(e ast.Expr) types.Object {
	if id, ok := e.(*ast.Ident); ok {
		return c.pass.TypesInfo.ObjectOf(id)
	}
	return nil
}

// sortedBy returns the slice that the statement sorts, nil when it sorts none.
func (c *checker) sortedBy(s ast.Stmt) types.Object {
	expr, ok := s.(*ast.ExprStmt)
	if !ok {
		return nil
	}
	call, ok := expr.X.(*ast.CallExpr)
	if !ok || len(call.Args) == 0 {
		return nil
	}
	switch c.callee(call) {
	case "slices.Sort", "slices.SortFunc", "slices.SortStableFunc",
		"sort.Strings", "sort.Ints", "sort.Slice", "sort.SliceStable":
		return c.object(call.Args[0])
	}
	return nil
}

// callee returns "package/path.Name" of a called function, "" when it is no
// plain function of a package.
func (c *checker) callee(call *ast.CallExpr) string {
	fun := ast.Unparen(call.Fun)
	switch f := fun.(type) {
	case *ast.IndexExpr:
		fun = f.X
	case *ast.IndexListExpr:
		fun = f.X
	}
	var id *ast.Ident
	switch f := fun.(type) {
	case *ast.SelectorExpr:
		id = f.Sel
	case *ast.Ident:
		id = f
	default:
		return ""
	}
	fn, ok := c.pass.TypesInfo.Uses[id].(*types.Func)
	if !ok || fn.Pkg() == nil || fn.Signature().Recv() != nil {
		return ""
	}
	return fn.Pkg().Path() + "." + fn.Name()
}

func (c *checker) call(n *ast.CallExpr) {
	name := c.callee(n)
	switch name {
	case "slices.Sorted":
		c.markIterator(n, "maps.Keys", "maps.Values")
	case "slices.SortedFunc", "slices.SortedStableFunc":
		c.markIterator(n, "maps.Keys") // values may tie, keys need not
	}
	if verbs, ok := strings.CutPrefix(name, "fmt."); ok {
		c.format(n, verbs)
	}
}

func (c *checker) markIterator(n *ast.CallExpr, allowed ...string) {
	if len(n.Args) == 0 {
		return
	}
	inner, ok := n.Args[0].(*ast.CallExpr)
	if !ok || !slices.Contains(allowed, c.callee(inner)) {
		return
	}
	if sel, isSelector := ast.Unparen(inner.Fun).(*ast.SelectorExpr); isSelector {
		c.sorted[sel.Sel] = true
	}
}
