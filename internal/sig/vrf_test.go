package sig_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519/extra/ecvrf"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
)

func TestVRF(t *testing.T) {
	t.Parallel()
	r := seeded(t)
	account := mustKey(t, sig.Ed25519, r)
	key, err := sig.DeriveVRF(account)
	require.NoError(t, err)
	same, err := sig.DeriveVRF(account)
	require.NoError(t, err)
	require.Equal(t, key.Public(), same.Public())
	pub := key.Public()
	require.NotEqual(t, account.Public().Bytes(), pub[:], "the key that votes does not make randomness")
	require.True(t, sig.ValidVRFKey(pub))

	input := []byte("height 7")
	proof := key.Prove(input)
	require.Len(t, proof, sig.VRFProofSize)
	require.Equal(t, proof, same.Prove(input))
	output, ok := sig.VerifyVRF(pub, input, proof)
	require.True(t, ok)
	other, ok := sig.VerifyVRF(pub, []byte("height 8"), key.Prove([]byte("height 8")))
	require.True(t, ok)
	require.NotEqual(t, output, other)

	stranger, err := sig.DeriveVRF(mustKey(t, sig.Ed25519, r))
	require.NoError(t, err)
	for name, bad := range map[string]bool{
		"another input": verifies(pub, []byte("height 8"), proof),
		"another key":   verifies(stranger.Public(), input, proof),
		"too short":     verifies(pub, input, proof[:79]),
		"too long":      verifies(pub, input, append(bytes.Clone(proof), 0)),
		"nothing":       verifies(pub, input, nil),
		"no point":      verifies(pub, input, bytes.Repeat([]byte{255}, sig.VRFProofSize)),
		"the zero key":  verifies([32]byte{}, input, proof),
		"a small key":   verifies([32]byte{1}, input, proof),
	} {
		require.False(t, bad, name)
	}
	for i := range proof {
		bad := bytes.Clone(proof)
		bad[i] ^= 1
		require.False(t, verifies(pub, input, bad), "byte %d", i)
	}
	for _, bad := range [][32]byte{{}, {1}, {2}, [32]byte(bytes.Repeat([]byte{0xff}, 32))} {
		require.False(t, sig.ValidVRFKey(bad), "%x", bad)
	}
}

func verifies(pub [32]byte, input, proof []byte) bool {
	_, ok := sig.VerifyVRF(pub, input, proof)
	return ok
}

func TestVRFKeyIsSecret(t *testing.T) {
	t.Parallel()
	require.True(t, sig.VRFKey{}.IsZero())
	for _, bad := range []sig.PrivateKey{{}, mustKey(t, sig.Secp256k1, seeded(t))} {
		_, err := sig.DeriveVRF(bad)
		require.ErrorIs(t, err, mman.ErrInvalid)
	}
	key, err := sig.DeriveVRF(mustKey(t, sig.Ed25519, seeded(t)))
	require.NoError(t, err)
	require.False(t, key.IsZero())
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		require.Equal(t, "[private key]", fmt.Sprintf(verb, key))
	}
	require.Equal(t, "[private key]", key.LogValue().String())
}

// TestVRFVector is the first vector of RFC 9381, appendix B.4.
func TestVRFVector(t *testing.T) {
	t.Parallel()
	seed := unhex(t, "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
	want := unhex(t, "7d9c633ffeee27349264cf5c667579fc583b4bda63ab71d001f89c10003ab46f14adf9a3cd8b8412d9038531e865c341cafa73589b023d14311c331a9ad15ff2fb37831e00f0acaa6d73bc9997b06501")
	proof := ecvrf.Prove(ed25519.NewKeyFromSeed(seed), nil)
	require.Equal(t, want, proof)
	output, ok := sig.VerifyVRF([32]byte(unhex(t, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")), nil, proof)
	require.True(t, ok)
	require.Equal(t, unhex(t, "9d574bf9b8302ec0fc1e21c3ec5368269527b87b462ce36dab2d14ccf80c53cccf6758f058c5b1c856b116388152bbe509ee3b9ecfe63d93c3b4346c1fbc6c54"), output[:])
}
