package mman

import _ "crypto/rand" // want `import of crypto/rand`
