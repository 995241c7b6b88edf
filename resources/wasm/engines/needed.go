//go:build needed

package engines

// The tests compile the C source that is in the folder of this module.
import _ "github.com/mattn/go-sqlite3"
