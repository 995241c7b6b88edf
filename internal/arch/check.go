package arch

import (
	"fmt"
	"slices"
	"strings"
)

// Package is what the law needs to know of a package, as go list prints it.
type Package struct {
	ImportPath string   `json:"ImportPath"`
	Name       string   `json:"Name"`
	Doc        string   `json:"Doc"`
	Imports    []string `json:"Imports"` // direct
	Deps       []string `json:"Deps"`    // direct and indirect
}

// Check returns one sentence for each breach of the law by a package of this
// module; other packages are free. The order follows pkgs.
func Check(pkgs []Package) []string {
	var out []string
	for _, p := range pkgs {
		rel, ours := relative(p.ImportPath)
		if !ours {
			continue
		}
		out = append(out, checkShape(rel, p)...)
		out = append(out, checkImports(rel, p)...)
		out = append(out, checkReach(rel, p)...)
	}
	return out
}

func checkShape(rel string, p Package) []string {
	var out []string
	folder, _, _ := strings.Cut(rel, "/")
	if rel != "." && !slices.Contains(Folders(), folder) {
		out = append(out, fmt.Sprintf("%s: %q is not a top-level folder of this project; give the reason in RATIONALE.md and add it to arch.Folders", rel, folder))
	}
	for _, name := range append(strings.Split(rel, "/"), p.Name) {
		if slices.Contains(Nameless(), name) {
			out = append(out, fmt.Sprintf("%s: %q says nothing about what is inside; name the package for what it provides", rel, name))
			break
		}
	}
	if strings.TrimSpace(p.Doc) == "" {
		out = append(out, rel+": no package comment; write doc.go: what it is, what it is not, who calls it, invariants")
	}
	return out
}

func checkImports(rel string, p Package) []string {
	var out []string
	law := Law()
	i := slices.IndexFunc(law, func(r Room) bool { return covers(r.In, rel) })
	if i < 0 {
		return []string{rel + ": no row of arch.Law covers this package; say there what it may import"}
	}
	room := law[i]
	for _, path := range p.Imports {
		to, ours := relative(path)
		if !ours {
			out = append(out, checkHome(rel, path)...)
			continue
		}
		leaf := slices.Contains(Leaves(), to) && !slices.Contains(Leaves(), rel)
		if !leaf && !allowed(room.May, to) {
			out = append(out, fmt.Sprintf("%s imports %s: %s (%s)", rel, to, room.Why, mayText(room)))
		}
	}
	return out
}

func checkHome(rel, path string) []string {
	homes := Homes()
	i := slices.IndexFunc(homes, func(h Home) bool { return path == h.Dep || strings.HasPrefix(path, h.Dep+"/") })
	if i < 0 || allowed(homes[i].In, rel) {
		return nil
	}
	return []string{fmt.Sprintf("%s imports %s: %s, in %s", rel, path, homes[i].Why, homes[i].In[0])}
}

func checkReach(rel string, p Package) []string {
	var out []string
	for _, d := range Distances() {
		if !covers(d.From, rel) {
			continue
		}
		for _, dep := range p.Deps {
			if slices.ContainsFunc(d.To, func(pattern string) bool { return covers(pattern, dep) }) {
				out = append(out, fmt.Sprintf("%s reaches %s: %s", rel, dep, d.Why))
			}
		}
	}
	return out
}

func mayText(r Room) string {
	if len(r.May) == 0 {
		return "it may import leaves only"
	}
	return "it may import " + strings.Join(r.May, ", ")
}

// relative returns an import path below the module, "." for the root.
func relative(path string) (rel string, ours bool) {
	if path == Module {
		return ".", true
	}
	return strings.CutPrefix(path, Module+"/")
}

// covers reports whether pattern ("x", "x/..." or "...") stands for path.
func covers(pattern, path string) bool {
	if pattern == "..." {
		return true
	}
	base, tree := strings.CutSuffix(pattern, "/...")
	return path == base || tree && strings.HasPrefix(path, base+"/")
}

// allowed reports whether patterns cover path; the last one that does decides,
// and one that starts with "!" says no.
func allowed(patterns []string, path string) bool {
	yes := false
	for _, pattern := range patterns {
		name, no := strings.CutPrefix(pattern, "!")
		if covers(name, path) {
			yes = !no
		}
	}
	return yes
}
