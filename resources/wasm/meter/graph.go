package meter

// node is a run of operators that is entered only at its start.
type node struct {
	pos  int   // where its charge goes, in the module
	cost int64 // of its operators
	// reach is the most fuel that a way from the last check to the node's
	// start can cost.
	reach int64
	check bool
}

// edge is a way from a node to another.
type edge struct{ from, to int32 }

// graph is the control flow of one function. Node 0 is its entry.
type graph struct {
	nodes []node
	edges []edge
	// deaths are the places from which code cannot be reached, up to the next
	// node.
	deaths []int
	loops  bool

	// Of merge: h is what is paid ahead on each class of edges; parent, a
	// forest, tells the class of the edges that leave (2i) and enter (2i+1) a
	// node; fixed classes pay nothing ahead; members lists the nodes that are
	// entered by a class.
	h       []int64
	parent  []int32
	fixed   []bool
	members []int32
	next    []int32
}

func (g *graph) reset() {
	g.nodes, g.edges, g.deaths, g.loops = g.nodes[:0], g.edges[:0], g.deaths[:0], false
}

func (g *graph) add(pos int) int32 {
	g.nodes = append(g.nodes, node{pos: pos})
	return int32(len(g.nodes) - 1) //nolint:gosec // below a function's bytes
}

func (g *graph) connect(from, to int32) {
	g.edges = append(g.edges, edge{from, to})
	if f, t := g.nodes[from], &g.nodes[to]; !t.check {
		t.reach = max(t.reach, f.reach+f.cost)
	}
}

// total is the cost of all code that can be reached.
func (g *graph) total() int64 {
	sum := int64(0)
	for _, n := range g.nodes {
		sum += n.cost
	}
	return sum
}

func (g *graph) class(i int32) int32 {
	for g.parent[i] != i {
		g.parent[i] = g.parent[g.parent[i]]
		i = g.parent[i]
	}
	return i
}

func leaving(n int32) int32  { return 2 * n }
func entering(n int32) int32 { return 2*n + 1 }

// merge finds what is paid ahead on each class of edges. Whatever it finds,
// every complete way through the function pays the sum of its nodes' costs; the
// charges only become fewer. It goes by node order, so that it is the same
// everywhere.
func (g *graph) merge(enabled bool) {
	n := int32(len(g.nodes)) //nolint:gosec // below a function's bytes
	g.h = resize(g.h, 2*int(n))
	g.parent = resize(g.parent, 2*int(n))
	g.fixed = resize(g.fixed, 2*int(n))
	g.members = resize(g.members, 2*int(n))
	g.next = resize(g.next, int(n))
	for i := range g.parent {
		g.parent[i] = int32(i)
		g.members[i] = -1
	}
	hasSuccessor := g.fixed // borrowed: at leaving(v)
	for _, e := range g.edges {
		hasSuccessor[leaving(e.from)] = true
		a, b := g.class(leaving(e.from)), g.class(entering(e.to))
		g.parent[max(a, b)] = min(a, b)
	}
	if !enabled {
		return
	}
	for v := range n {
		g.fixed[leaving(v)] = !hasSuccessor[leaving(v)]
	}
	g.fixed[entering(0)] = true // no edge leads to the entry, none from an end: each is its own class
	for v := n - 1; v >= 0; v-- {
		c := g.class(entering(v))
		g.next[v] = g.members[c]
		g.members[c] = v
	}
	for range 4 {
		if !g.pass(n) {
			return
		}
	}
}

// pass raises each class once, as far as no charge becomes negative.
func (g *graph) pass(n int32) bool {
	changed := false
	for v := n - 1; v >= 0; v-- {
		c := g.class(entering(v))
		if g.fixed[c] || g.members[c] != v { // a class is treated with its first node
			continue
		}
		lowest := int64(-1)
		for d := v; d >= 0; d = g.next[d] {
			out := g.class(leaving(d))
			if out == c {
				continue
			}
			if x := g.nodes[d].cost + g.h[out] - g.h[c]; lowest < 0 || x < lowest {
				lowest = x
			}
		}
		if lowest > 0 {
			g.h[c] += lowest
			changed = true
		}
	}
	return changed
}

// charge is what is paid at the start of a node.
func (g *graph) charge(v int) int64 {
	n := int32(v) //nolint:gosec // a node's number
	return g.nodes[v].cost + g.h[g.class(leaving(n))] - g.h[g.class(entering(n))]
}

// resize returns a slice of n zeros that reuses s.
func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/2)
	}
	s = s[:n]
	clear(s)
	return s
}
