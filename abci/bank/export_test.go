package bank

// Encode is how the bank writes a record.
func (a Account) Encode() ([]byte, error) { return a.encode() }

// ReadAccount is how the bank reads a record, unless it leaves it to dagcbor.
func ReadAccount(b []byte) (Account, bool) { return readAccount(b) }
