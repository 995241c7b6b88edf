// Package leb128 writes the signed numbers of WebAssembly's binary format. Unsigned
// ones are what encoding/binary calls uvarints. The meter and the builders of test
// modules use it; reading numbers, with the checks that a stranger's bytes need, is the
// meter's own.
package leb128
