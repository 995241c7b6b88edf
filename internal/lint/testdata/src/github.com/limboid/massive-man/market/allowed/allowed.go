package allowed

import "encoding/binary"

func key(height uint64) []byte { return binary.BigEndian.AppendUint64([]byte("due/"), height) }
