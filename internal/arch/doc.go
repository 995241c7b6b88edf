// Package arch holds the import law: which package of this module may import
// which, and which package is the one home of each heavy dependency.
//
// law.go is the law, as tables to read and to change; check.go finds what
// breaks it in a list of packages and their imports. The test takes that list
// from go list, so that an import which the law does not allow fails
// go test ./internal/arch. Nothing else uses this package.
//
// A package that no row of the table covers breaks the law as well: a new room
// is an occasion to say who may enter it.
package arch
