package imports

import (
	_ "context"       // want `import of context in the state machine: a deadline is a clock`
	_ "crypto/rand"   // want `import of crypto/rand in the state machine: randomness comes from the beacon`
	_ "encoding/gob"  // want `import of encoding/gob`
	_ "expvar"        // want `import of expvar`
	_ "hash/maphash"  // want `import of hash/maphash in the state machine: its seed differs`
	_ "log"           // want `import of log in the state machine: pure code returns reasons`
	_ "log/slog"      // want `import of log/slog`
	_ "math/rand"     // want `import of math/rand`
	_ "math/rand/v2"  // want `import of math/rand/v2`
	_ "net"           // want `import of net in the state machine: no I/O`
	_ "net/http"      // want `import of net/http`
	_ "os"            // want `import of os in`
	_ "os/exec"       // want `import of os/exec`
	_ "plugin"        // want `import of plugin`
	_ "reflect"       // want `import of reflect`
	_ "runtime"       // want `import of runtime in`
	_ "runtime/debug" // want `import of runtime/debug`
	_ "sync"          // want `import of sync in the state machine: there is nothing to guard`
	_ "sync/atomic"   // want `import of sync/atomic`
	_ "syscall"       // want `import of syscall`
	_ "testing"       // want `import of testing`
	_ "unsafe"        // want `import of unsafe`

	_ "github.com/tetratelabs/wazero" // want `import of github.com/tetratelabs/wazero in the state machine: no guest code`

	_ "bytes"
	_ "crypto/sha256"
	_ "encoding/json"
	_ "math/big"
	_ "math/bits"
	_ "net/netip"
	_ "net/url"
)
