package bank

import "sync" // want `import of sync`

var mu sync.Mutex
