package mman

// DecodeBech32 and EncodeBech32 let the tests try the vectors of BIP-173, whose
// human-readable parts no address of ours has.
var (
	DecodeBech32 = decodeBech32
	EncodeBech32 = encodeBech32
)
