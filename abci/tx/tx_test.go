package tx_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market/storage"
)

const chainID = "mman-local-00000000"

// key returns a key that depends on nothing but its arguments.
func key(tb testing.TB, typ sig.KeyType, n byte) sig.PrivateKey {
	tb.Helper()
	k, err := sig.FromSeed(typ, bytes.Repeat([]byte{n}, 32))
	require.NoError(tb, err)
	return k
}

func address(tb testing.TB, n byte) mman.Address {
	tb.Helper()
	return key(tb, sig.Ed25519, n).Public().Address()
}

// samples returns one valid message of each type, all signed by address(1).
func samples(tb testing.TB) []tx.Msg {
	tb.Helper()
	a := address(tb, 1)
	node := key(tb, sig.Ed25519, 9)
	signature := bytes.Repeat([]byte{7}, 64)
	bind := tx.MsgBindNode{
		Account: a, Peer: mman.PeerID(node.Public().Bytes()),
		Addrs: []string{"/ip4/127.0.0.1/tcp/4051", "/ip4/127.0.0.1/udp/4051/quic-v1"},
	}
	return []tx.Msg{
		tx.MsgSend{From: a, To: address(tb, 2), Amount: 1_234_567},
		tx.MsgMultiSend{From: a, Outputs: []tx.Output{{To: address(tb, 2), Amount: 300}, {To: address(tb, 3), Amount: 1}}},
		tx.MsgOffer{Provider: a, Offer: []byte{0xa0}, Signature: signature},
		tx.MsgWithdrawOffer{Provider: a, Offer: mman.SumCID(mman.CodecDagCBOR, []byte{0xa0})},
		bind.SignNode(node, chainID),
		tx.MsgRequest{Consumer: a, Request: []byte{0xa0}, Looks: 512},
		tx.MsgCancelRequest{Consumer: a, Request: mman.RequestID{1, 2, 3}},
		tx.MsgSettle{
			Sender: a,
			Items:  []tx.SettleItem{{[]byte{0xa0}, signature}, {[]byte{0xa1}, signature}},
			Close:  []mman.LeaseID{{4}, {5}},
		},
		tx.MsgCloseLease{Account: a, Lease: mman.LeaseID{1, 2, 3}},
		tx.MsgAcceptLeases{Provider: a, Leases: []mman.LeaseID{{1}, {2}}},
		tx.MsgGrant{Provider: a, Offer: mman.SumCID(mman.CodecDagCBOR, []byte{0xa0}), Grantee: address(tb, 6), Policy: []byte{0xa0}, Expires: 77},
		tx.MsgRevoke{Provider: a, Offer: mman.SumCID(mman.CodecDagCBOR, []byte{0xa0}), Grantee: address(tb, 6)},
		tx.MsgOpenRFP{Consumer: a, Request: []byte{0xa0}, Bond: 500, CommitBy: 12},
		tx.MsgCommitBids{Consumer: a, Request: mman.RequestID{1, 2, 3}, Bids: []tx.CommittedBid{{[]byte{0xa0}, signature}, {[]byte{0xa1}, signature}}},
		tx.MsgPostBid{Bidder: a, Commitment: []byte{0xa0}, Acknowledgement: signature},
		tx.MsgRevealBid{Bidder: a, Request: mman.RequestID{1, 2, 3}, Bid: []byte{0xa0}, Salt: mman.Hash{7}},
		tx.MsgStorageOffer{Provider: a, Peer: mman.PeerID{1}, Tier: storage.Fast, Region: "eu", Price: 5, Retrieve: 6, Latency: 7, Capacity: 8},
		tx.MsgStore{Consumer: a, Key: [32]byte{1}, Content: mman.SumCID(mman.CodecRaw, nil), Bytes: 9, Tier: storage.Slow, MaxPrice: 3, Spread: true, Epochs: 4, Roots: []mman.Hash{{1}, {2}}, Providers: []mman.Address{{1}, {}}},
		tx.MsgAcceptStorage{Provider: a, Replicas: []tx.ReplicaName{{Lease: mman.LeaseID{1}, Replica: 2}, {}}},
		tx.MsgProveStorage{Provider: a, Epoch: 5, Proofs: [][]byte{{1}, {2, 3}}},
		tx.MsgPlaceStorage{Consumer: a, Lease: mman.LeaseID{1}, Replica: 2, Root: mman.Hash{3}},
		tx.MsgRenewStorage{Consumer: a, Lease: mman.LeaseID{1}, Epochs: 2},
		tx.MsgEndStorage{Consumer: a, Lease: mman.LeaseID{1}},
		tx.MsgFundRetrieval{Consumer: a, Provider: a, Key: [32]byte{1}, Amount: 2},
		tx.MsgRedeemRetrieval{Provider: a, Consumer: a, Amount: 2, Signature: make([]byte, 64)},
		tx.MsgDelegate{Delegator: a, Validator: address(tb, 4), Amount: 10},
		tx.MsgUndelegate{Delegator: a, Validator: address(tb, 4), Amount: 1 << 40},
		tx.MsgRedelegate{Delegator: a, From: address(tb, 4), To: address(tb, 5), Amount: 12},
		tx.MsgCreateValidator{Operator: a, Name: "a node", CommissionPPM: 50_000, Stake: 1_000_000}.SignKey(node, chainID),
		tx.MsgEditValidator{Operator: a, Name: "another name", CommissionPPM: 60_000},
		tx.MsgUnjail{Operator: a},
	}
}

func sign(tb testing.TB, d tx.Draft) *tx.Tx {
	tb.Helper()
	t, err := tx.Sign(key(tb, sig.Ed25519, 1), chainID, 3, d)
	require.NoError(tb, err)
	return t
}

func TestSignAndDecode(t *testing.T) {
	t.Parallel()
	for _, typ := range []sig.KeyType{sig.Ed25519, sig.Secp256k1} {
		t.Run(typ.String(), func(t *testing.T) {
			t.Parallel()
			k := key(t, typ, 1)
			d := tx.Draft{
				Msgs: []tx.Msg{
					tx.MsgSend{From: k.Public().Address(), To: address(t, 2), Amount: 5},
					tx.MsgRequest{Consumer: k.Public().Address(), Request: []byte{0xa0}},
				},
				Memo: "grüße", TimeoutHeight: 77, Sequence: 9, Fee: 2000, GasLimit: 200_000,
			}
			made, err := tx.Sign(k, chainID, 3, d)
			require.NoError(t, err)
			got, err := tx.Decode(bytes.Clone(made.Raw()))
			require.NoError(t, err)
			require.Equal(t, made, got)
			require.Equal(t, "grüße", got.Memo)
			require.Equal(t, uint64(77), got.TimeoutHeight)
			require.Equal(t, uint64(9), got.Sequence)
			require.Equal(t, mman.Amount(2000), got.Fee)
			require.Equal(t, uint64(200_000), got.GasLimit)
			require.Equal(t, k.Public(), got.Signer)
			require.Equal(t, mman.Hash(sha256.Sum256(got.Raw())), got.Hash())
			msgs, err := got.Msgs()
			require.NoError(t, err)
			require.Equal(t, d.Msgs, msgs)

			require.NoError(t, got.Verify(chainID, 3))
			require.ErrorIs(t, got.Verify("mman-local-11111111", 3), mman.ErrBadSignature)
			require.ErrorIs(t, got.Verify(chainID, 4), mman.ErrBadSignature)

			unsigned, err := tx.Build(k.Public(), d)
			require.NoError(t, err)
			require.Nil(t, unsigned.Raw())
			require.Nil(t, unsigned.Signature)
			require.Equal(t, got.SignBytes(chainID, 3), unsigned.SignBytes(chainID, 3))
			signed, err := unsigned.WithSignature(k.Sign(unsigned.SignBytes(chainID, 3)))
			require.NoError(t, err)
			require.Equal(t, got, signed)
			_, err = unsigned.WithSignature(nil)
			require.ErrorIs(t, err, mman.ErrTxDecode)
		})
	}
}

func TestEverySignedByteCounts(t *testing.T) {
	t.Parallel()
	raw := sign(t, tx.Draft{Msgs: samples(t), Memo: "m", Sequence: 1, Fee: 1, GasLimit: 1}).Raw()
	for i := range raw {
		for _, flip := range []byte{1, 0x80} {
			bad := bytes.Clone(raw)
			bad[i] ^= flip
			got, err := tx.Decode(bad)
			if err != nil {
				require.ErrorIs(t, err, mman.ErrTxDecode)
				continue
			}
			require.ErrorIs(t, got.Verify(chainID, 3), mman.ErrBadSignature, "byte %d", i)
		}
		_, err := tx.Decode(raw[:i])
		require.ErrorIs(t, err, mman.ErrTxDecode, "cut at %d", i)
	}
	_, err := tx.Decode(append(bytes.Clone(raw), 0))
	require.ErrorIs(t, err, mman.ErrTxDecode)
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	k := key(t, sig.Ed25519, 1)
	a := k.Public().Address()
	send := tx.MsgSend{From: a, To: address(t, 2), Amount: 1}
	many := func(n int) []tx.Msg {
		out := make([]tx.Msg, n)
		for i := range out {
			out[i] = send
		}
		return out
	}
	item := tx.SettleItem{Receipt: []byte{1}, Signature: make([]byte, 64)}
	for name, c := range map[string]struct {
		draft tx.Draft
		want  error
		says  string
	}{
		"no payment":               {tx.Draft{Msgs: []tx.Msg{tx.MsgMultiSend{From: a}}}, mman.ErrTxDecode, "input, field 2"},
		"a payment of 0":           {tx.Draft{Msgs: []tx.Msg{tx.MsgMultiSend{From: a, Outputs: []tx.Output{{address(t, 2), 1}, {address(t, 3), 0}}}}}, mman.ErrTxDecode, "output"},
		"payments above all money": {tx.Draft{Msgs: []tx.Msg{tx.MsgMultiSend{From: a, Outputs: []tx.Output{{address(t, 2), 1 << 63}, {address(t, 3), 1 << 63}}}}}, mman.ErrTxDecode, "input, field 2"},
		"no message":               {tx.Draft{}, mman.ErrTxDecode, "TxRaw, field 1"},
		"33 messages":              {tx.Draft{Msgs: many(33)}, mman.ErrTxDecode, "more than 32 messages"},
		"long memo":                {tx.Draft{Msgs: many(1), Memo: strings.Repeat("m", 257)}, mman.ErrTxDecode, "at most 256"},
		"memo not UTF-8":           {tx.Draft{Msgs: many(1), Memo: "\xff"}, mman.ErrTxDecode, "UTF-8"},
		"timeout too high":         {tx.Draft{Msgs: many(1), TimeoutHeight: 1 << 63}, mman.ErrTxDecode, "no height"},
		"too large": {
			tx.Draft{Msgs: []tx.Msg{
				tx.MsgRequest{Consumer: a, Request: make([]byte, tx.MaxRequestBytes)},
				tx.MsgRequest{Consumer: a, Request: make([]byte, tx.MaxRequestBytes)},
			}},
			mman.ErrTxDecode, "at most 65536",
		},
		"another's message": {tx.Draft{Msgs: []tx.Msg{tx.MsgSend{From: address(t, 2), To: a, Amount: 1}}}, mman.ErrDenied, "must sign it"},
		"nothing sent":      {tx.Draft{Msgs: []tx.Msg{tx.MsgSend{From: a, To: a}}}, mman.ErrTxDecode, "field 3"},
		"large offer": {
			tx.Draft{Msgs: []tx.Msg{tx.MsgOffer{Provider: a, Offer: make([]byte, tx.MaxOfferBytes+1), Signature: make([]byte, 64)}}},
			mman.ErrTxDecode, "at most 32768",
		},
		"short signature": {
			tx.Draft{Msgs: []tx.Msg{tx.MsgOffer{Provider: a, Offer: []byte{1}, Signature: make([]byte, 63)}}},
			mman.ErrTxDecode, "63 bytes where 64",
		},
		"no cid":        {tx.Draft{Msgs: []tx.Msg{tx.MsgWithdrawOffer{Provider: a}}}, mman.ErrTxDecode, "field 2"},
		"nine addrs":    {tx.Draft{Msgs: []tx.Msg{tx.MsgBindNode{Account: a, Addrs: strings.Split(strings.Repeat("/a ", 9)+"/a", " ")}.SignNode(k, chainID)}}, mman.ErrTxDecode, "more than 8"},
		"no multiaddr":  {tx.Draft{Msgs: []tx.Msg{tx.MsgBindNode{Account: a, Addrs: []string{"127.0.0.1"}}.SignNode(k, chainID)}}, mman.ErrTxDecode, "multiaddr"},
		"long addr":     {tx.Draft{Msgs: []tx.Msg{tx.MsgBindNode{Account: a, Addrs: []string{"/" + strings.Repeat("a", 128)}}.SignNode(k, chainID)}}, mman.ErrTxDecode, "at most 128"},
		"empty request": {tx.Draft{Msgs: []tx.Msg{tx.MsgRequest{Consumer: a}}}, mman.ErrTxDecode, "field 2"},
		"empty settle":  {tx.Draft{Msgs: []tx.Msg{tx.MsgSettle{Sender: a}}}, mman.ErrTxDecode, "nothing to settle"},
		"257 receipts":  {tx.Draft{Msgs: []tx.Msg{tx.MsgSettle{Sender: a, Items: repeat(item, 257)}}}, mman.ErrTxDecode, "more than 256 receipts"},
		"257 closes":    {tx.Draft{Msgs: []tx.Msg{tx.MsgSettle{Sender: a, Close: repeat(mman.LeaseID{}, 257)}}}, mman.ErrTxDecode, "more than 256 leases"},
		"large receipt": {
			tx.Draft{Msgs: []tx.Msg{tx.MsgSettle{Sender: a, Items: []tx.SettleItem{{make([]byte, tx.MaxReceiptBytes+1), make([]byte, 64)}}}}},
			mman.ErrTxDecode, "at most 4096",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := tx.Sign(k, chainID, 0, c.draft)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.says)
		})
	}
	_, err := tx.Sign(sig.PrivateKey{}, chainID, 0, tx.Draft{Msgs: many(1)})
	require.ErrorIs(t, err, mman.ErrInvalid)
	_, err = tx.Build(sig.PublicKey{}, tx.Draft{Msgs: many(1)})
	require.ErrorIs(t, err, mman.ErrTxDecode)
	_, err = tx.Sign(k, chainID, 0, tx.Draft{Msgs: many(32), Memo: strings.Repeat("m", 256)})
	require.NoError(t, err, "the limits themselves are allowed")
	_, err = tx.Sign(k, chainID, 0, tx.Draft{Msgs: []tx.Msg{tx.MsgSettle{Sender: a, Items: repeat(item, 256), Close: repeat(mman.LeaseID{}, 256)}}})
	require.NoError(t, err, "the limits themselves are allowed")
}

func repeat[T any](v T, n int) []T {
	out := make([]T, n)
	for i := range out {
		out[i] = v
	}
	return out
}

// field writes a field of bytes, whatever the rules.
func field(num protowire.Number, parts ...[]byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), bytes.Join(parts, nil))
}

func number(num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), v)
}

func text(num protowire.Number, s string) []byte { return field(num, []byte(s)) }

// An envelope in pieces, so that each test spoils one of them.
type pieces struct {
	body, signer, mode, pubkey, fee, auth, tail []byte
	signatures                                  []byte
}

func valid(tb testing.TB) pieces {
	tb.Helper()
	pub := key(tb, sig.Ed25519, 1).Public()
	msg := tx.EncodeMsg(samples(tb)[0])
	return pieces{
		body:       field(1, text(1, msg.TypeURL), field(2, msg.Value)),
		pubkey:     field(1, text(1, "/cosmos.crypto.ed25519.PubKey"), field(2, field(1, pub.Bytes()))),
		mode:       field(2, field(1, number(1, 1))),
		signer:     number(3, 4),
		fee:        bytes.Join([][]byte{field(1, text(1, "uman"), text(2, "20")), number(2, 300)}, nil),
		signatures: field(3, make([]byte, 64)),
	}
}

func (p pieces) raw() []byte {
	auth := bytes.Join([][]byte{field(1, p.pubkey, p.mode, p.signer), field(2, p.fee), p.auth}, nil)
	return bytes.Join([][]byte{field(1, p.body), field(2, auth), p.signatures, p.tail}, nil)
}

func TestDecodeStrict(t *testing.T) {
	t.Parallel()
	got, err := tx.Decode(valid(t).raw())
	require.NoError(t, err)
	require.Equal(t, uint64(4), got.Sequence)
	long := []byte{0x80 | 4, 0x00} // 4 in two bytes
	for name, c := range map[string]struct {
		spoil func(p *pieces)
		says  string
	}{
		"unknown field behind":     {func(p *pieces) { p.tail = text(4, "x") }, "unknown"},
		"two signatures":           {func(p *pieces) { p.tail = p.signatures }, "doubled"},
		"no signature":             {func(p *pieces) { p.signatures = nil }, "TxRaw, field 3"},
		"long signature":           {func(p *pieces) { p.signatures = field(3, make([]byte, 65)) }, "at most 64"},
		"field number 0":           {func(p *pieces) { p.tail = []byte{0x02, 0x00} }, "no field"},
		"group":                    {func(p *pieces) { p.tail = []byte{0x23, 0x24} }, "unknown"},
		"explicit empty memo":      {func(p *pieces) { p.body = append(p.body, text(2, "")...) }, "left out"},
		"explicit zero timeout":    {func(p *pieces) { p.body = append(p.body, number(3, 0)...) }, "left out"},
		"memo after timeout":       {func(p *pieces) { p.body = append(append(p.body, number(3, 1)...), text(2, "m")...) }, "ascending"},
		"memo twice":               {func(p *pieces) { p.body = append(append(p.body, text(2, "m")...), text(2, "m")...) }, "doubled"},
		"timeout as bytes":         {func(p *pieces) { p.body = append(p.body, text(3, "m")...) }, "wire type"},
		"unordered":                {func(p *pieces) { p.body = append(p.body, number(4, 1)...) }, "unknown"},
		"extension option":         {func(p *pieces) { p.body = append(p.body, field(1023, text(1, "/x"))...) }, "unknown"},
		"message without type":     {func(p *pieces) { p.body = field(1, field(2, []byte{1})) }, "type URL"},
		"message with empty value": {func(p *pieces) { p.body = field(1, text(1, "/x"), field(2)) }, "left out"},
		"long type URL":            {func(p *pieces) { p.body = field(1, text(1, strings.Repeat("/", 129))) }, "at most 128"},
		"sequence explicit zero":   {func(p *pieces) { p.signer = number(3, 0) }, "left out"},
		"sequence not minimal":     {func(p *pieces) { p.signer = append(protowire.AppendTag(nil, 3, protowire.VarintType), long...) }, "fewest"},
		"sequence overflows":       {func(p *pieces) { p.signer = append([]byte{0x18}, bytes.Repeat([]byte{0xff}, 10)...) }, "breaks off"},
		"length not minimal":       {func(p *pieces) { p.body = append(p.body, 0x12, 0x81, 0x00, 'm') }, "fewest"},
		"tag not minimal":          {func(p *pieces) { p.body = append(p.body, 0x92, 0x00, 0x01, 'm') }, "unknown"},
		"length beyond the end":    {func(p *pieces) { p.body = append(p.body, 0x12, 0x05, 'm') }, "announced"},
		"enormous length": {func(p *pieces) {
			p.body = append(p.body, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01)
		}, "announced"},
		"amino signing":    {func(p *pieces) { p.mode = field(2, field(1, number(1, 127))) }, "SIGN_MODE_DIRECT"},
		"unspecified mode": {func(p *pieces) { p.mode = field(2, field(1)) }, "SIGN_MODE_DIRECT"},
		"multi signature":  {func(p *pieces) { p.mode = field(2, field(2)) }, "SIGN_MODE_DIRECT"},
		"no mode":          {func(p *pieces) { p.mode = nil }, "SignerInfo, field 2"},
		"no public key":    {func(p *pieces) { p.pubkey = nil }, "SignerInfo, field 1"},
		"multisig public key": {func(p *pieces) {
			p.pubkey = field(1, text(1, "/cosmos.crypto.multisig.LegacyAminoPubKey"), field(2, []byte{1}))
		}, "use /cosmos"},
		"short public key": {func(p *pieces) {
			p.pubkey = field(1, text(1, "/cosmos.crypto.ed25519.PubKey"), field(2, field(1, []byte{1})))
		}, "public key"},
		"tip":                         {func(p *pieces) { p.auth = field(3) }, "unknown"},
		"fee payer":                   {func(p *pieces) { p.fee = append(p.fee, text(3, "man1")...) }, "the signer pays"},
		"fee granter":                 {func(p *pieces) { p.fee = append(p.fee, text(4, "man1")...) }, "the signer pays"},
		"fee in another denomination": {func(p *pieces) { p.fee = field(1, text(1, "uatom"), text(2, "1")) }, "uatom"},
		"two coins":                   {func(p *pieces) { p.fee = append(p.fee[:len(p.fee)-3:len(p.fee)-3], p.fee[:len(p.fee)-3]...) }, "one coin"},
		"fee of 0":                    {func(p *pieces) { p.fee = field(1, text(1, "uman"), text(2, "0")) }, "decimal"},
		"fee with leading zero":       {func(p *pieces) { p.fee = field(1, text(1, "uman"), text(2, "01")) }, "decimal"},
		"fee with sign":               {func(p *pieces) { p.fee = field(1, text(1, "uman"), text(2, "+1")) }, "decimal"},
		"fee too large":               {func(p *pieces) { p.fee = field(1, text(1, "uman"), text(2, "18446744073709551616")) }, "decimal"},
		"fee of 21 digits":            {func(p *pieces) { p.fee = field(1, text(1, "uman"), text(2, "100000000000000000000")) }, "decimal"},
		"fee without amount":          {func(p *pieces) { p.fee = field(1, text(1, "uman")) }, "missing"},
		"empty fee coin":              {func(p *pieces) { p.fee = field(1) }, "missing"},
		"gas explicit zero":           {func(p *pieces) { p.fee = number(2, 0) }, "left out"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := valid(t)
			c.spoil(&p)
			_, err := tx.Decode(p.raw())
			require.ErrorIs(t, err, mman.ErrTxDecode)
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), "\n")
		})
	}
	t.Run("two signer infos", func(t *testing.T) {
		t.Parallel()
		p := valid(t)
		info := field(1, p.pubkey, p.mode, p.signer)
		raw := bytes.Join([][]byte{field(1, p.body), field(2, info, info, field(2, p.fee)), p.signatures}, nil)
		_, err := tx.Decode(raw)
		require.ErrorIs(t, err, mman.ErrTxDecode)
		require.ErrorContains(t, err, "exactly one signer")
	})
	t.Run("largest amount", func(t *testing.T) {
		t.Parallel()
		p := valid(t)
		p.fee = field(1, text(1, "uman"), text(2, "18446744073709551615"))
		got, err := tx.Decode(p.raw())
		require.NoError(t, err)
		require.Equal(t, mman.Amount(1<<64-1), got.Fee)
	})
	t.Run("empty fee", func(t *testing.T) {
		t.Parallel()
		p := valid(t)
		p.fee = nil
		got, err := tx.Decode(p.raw())
		require.NoError(t, err)
		require.Zero(t, got.Fee)
		require.Zero(t, got.GasLimit)
	})
	t.Run("too large", func(t *testing.T) {
		t.Parallel()
		_, err := tx.Decode(make([]byte, tx.MaxTxBytes+1))
		require.ErrorIs(t, err, mman.ErrTxDecode)
	})
	t.Run("empty", func(t *testing.T) {
		t.Parallel()
		_, err := tx.Decode(nil)
		require.ErrorIs(t, err, mman.ErrTxDecode)
	})
}

func TestMessages(t *testing.T) {
	t.Parallel()
	all := samples(t)
	urls := make([]string, len(all))
	for i, m := range all {
		urls[i] = m.TypeURL()
		t.Run(strings.TrimPrefix(m.TypeURL(), "/"), func(t *testing.T) {
			t.Parallel()
			a := tx.EncodeMsg(m)
			got, err := tx.DecodeMsg(a.TypeURL, a.Value)
			require.NoError(t, err)
			require.Equal(t, m, got)
			require.Equal(t, address(t, 1), got.Signer())
			for i := range a.Value {
				_, err := tx.DecodeMsg(a.TypeURL, a.Value[:i])
				if err == nil { // a settle that ends behind an item is one, an edit may set no commission
					require.Contains(t, []string{
						tx.TypeSettle, tx.TypeRequest, tx.TypeAcceptLeases, tx.TypeGrant, tx.TypeOpenRFP, tx.TypeCommitBids, tx.TypeEditValidator,
						tx.TypeStorageOffer, tx.TypeStore, tx.TypeAcceptStorage, tx.TypeProveStorage, tx.TypeRenewStorage, tx.TypeFundRetrieval,
					}, a.TypeURL)
					continue
				}
				require.ErrorIs(t, err, mman.ErrTxDecode)
			}
			for _, tail := range [][]byte{{0}, {0xff}, text(9, "x"), number(1, 0), text(1, address(t, 1).String())} {
				_, err := tx.DecodeMsg(a.TypeURL, append(bytes.Clone(a.Value), tail...))
				require.ErrorIs(t, err, mman.ErrTxDecode)
			}
		})
	}
	require.Equal(t, tx.TypeURLs(), urls, "one sample of each type")

	_, err := tx.DecodeMsg("/cosmos.gov.v1.MsgVote", nil)
	require.ErrorIs(t, err, mman.ErrUnknownMsg)
	_, err = tx.DecodeMsg(tx.TypeOffer, make([]byte, tx.MaxTxBytes+1))
	require.ErrorIs(t, err, mman.ErrTxDecode)
}

func TestDecodeMsgStrict(t *testing.T) {
	t.Parallel()
	a, b := address(t, 1).String(), address(t, 2).String()
	coin := field(3, text(1, "uman"), text(2, "1"))
	for name, c := range map[string]struct {
		url   string
		value []byte
		says  string
	}{
		"upper-case address":  {tx.TypeSend, bytes.Join([][]byte{text(1, strings.ToUpper(a)), text(2, b), coin}, nil), "lower case"},
		"validator's address": {tx.TypeSend, bytes.Join([][]byte{text(1, address(t, 1).ValidatorString()), text(2, b), coin}, nil), "it starts with"},
		"foreign address":     {tx.TypeSend, bytes.Join([][]byte{text(1, "cosmos1pkptre7fdkl6gfrzlesjjvhxhlc3r4gmmk8rs6"), text(2, b), coin}, nil), "it starts with"},
		"mistyped address":    {tx.TypeSend, bytes.Join([][]byte{text(1, a[:len(a)-1]+"b"), text(2, b), coin}, nil), "bech32"},
		"no receiver":         {tx.TypeSend, bytes.Join([][]byte{text(1, a), coin}, nil), "field 2"},
		"two coins":           {tx.TypeSend, bytes.Join([][]byte{text(1, a), text(2, b), coin, coin}, nil), "one coin"},
		"fields turned round": {tx.TypeSend, bytes.Join([][]byte{text(2, b), text(1, a), coin}, nil), "field 1"},
		"no cid":              {tx.TypeWithdrawOffer, append(text(1, a), text(2, "bafy")...), "cid"},
		"short id":            {tx.TypeCloseLease, append(text(1, a), field(2, make([]byte, 19))...), "19 bytes where 20"},
		"long id":             {tx.TypeCancelRequest, append(text(1, a), field(2, make([]byte, 21))...), "at most 20"},
		"too many looks":      {tx.TypeRequest, bytes.Join([][]byte{text(1, a), field(2, []byte{0xa0}), number(3, tx.MaxLooks+1)}, nil), "looks"},
		"nothing to accept":   {tx.TypeAcceptLeases, text(1, a), "no lease"},
		"short close":         {tx.TypeSettle, append(text(1, a), field(3, make([]byte, 19))...), "element of 19 bytes"},
		"empty item":          {tx.TypeSettle, append(text(1, a), field(2)...), "item, field 1"},
		"item with more":      {tx.TypeSettle, append(text(1, a), field(2, field(1, []byte{1}), field(2, make([]byte, 64)), number(3, 1))...), "item, field 3"},
		"empty addr":          {tx.TypeBindNode, bytes.Join([][]byte{text(1, a), field(2, make([]byte, 32)), field(3), field(4, make([]byte, 64))}, nil), "multiaddr"},
		"addr with a space":   {tx.TypeBindNode, bytes.Join([][]byte{text(1, a), field(2, make([]byte, 32)), text(3, "/a b"), field(4, make([]byte, 64))}, nil), "multiaddr"},
		"short peer":          {tx.TypeBindNode, bytes.Join([][]byte{text(1, a), field(2, make([]byte, 31)), field(4, make([]byte, 64))}, nil), "31 bytes where 32"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := tx.DecodeMsg(c.url, c.value)
			require.ErrorIs(t, err, mman.ErrTxDecode)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestBindNode(t *testing.T) {
	t.Parallel()
	node := key(t, sig.Ed25519, 9)
	m := tx.MsgBindNode{Account: address(t, 1), Peer: mman.PeerID(node.Public().Bytes()), Addrs: []string{"/ip4/127.0.0.1/tcp/1"}}
	require.False(t, m.VerifyNode(chainID))
	signed := m.SignNode(node, chainID)
	require.Nil(t, m.NodeSignature, "the receiver is not changed")
	require.True(t, signed.VerifyNode(chainID))
	require.False(t, signed.VerifyNode("mman-local-11111111"))
	for name, spoil := range map[string]func(m *tx.MsgBindNode){
		"another account": func(m *tx.MsgBindNode) { m.Account = address(t, 2) },
		"another peer":    func(m *tx.MsgBindNode) { m.Peer[0]++ },
		"another address": func(m *tx.MsgBindNode) { m.Addrs = []string{"/ip4/127.0.0.1/tcp/2"} },
		"no address":      func(m *tx.MsgBindNode) { m.Addrs = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := signed
			spoil(&other)
			require.False(t, other.VerifyNode(chainID))
		})
	}
}

func TestResultData(t *testing.T) {
	t.Parallel()
	require.Empty(t, tx.ResultData(nil))
	// 0x12 = field 2, 0x0a = field 1: the rules of the encoding, by hand.
	require.Equal(t, "12260a24"+hex.EncodeToString([]byte("/cosmos.bank.v1beta1.MsgSendResponse")), hex.EncodeToString(tx.ResultData([]string{tx.TypeSend})))
}

func FuzzDecode(f *testing.F) {
	f.Add(sign(f, tx.Draft{Msgs: samples(f), Memo: "m", TimeoutHeight: 5, Sequence: 1, Fee: 1, GasLimit: 1}).Raw())
	f.Add(sign(f, tx.Draft{Msgs: samples(f)[:1]}).Raw())
	f.Add(valid(f).raw())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := tx.Decode(raw)
		if err != nil {
			require.ErrorIs(t, err, mman.ErrTxDecode)
			return
		}
		require.Equal(t, raw, encode(got))
	})
}

// encode writes a decoded transaction by the rules of the encoding, without the
// package's own writer.
func encode(t *tx.Tx) []byte {
	var body, fee []byte
	for _, m := range t.Messages {
		a := text(1, m.TypeURL)
		if len(m.Value) > 0 {
			a = append(a, field(2, m.Value)...)
		}
		body = append(body, field(1, a)...)
	}
	if t.Memo != "" {
		body = append(body, text(2, t.Memo)...)
	}
	if t.TimeoutHeight > 0 {
		body = append(body, number(3, t.TimeoutHeight)...)
	}
	if t.Fee > 0 {
		fee = field(1, text(1, "uman"), text(2, strconv.FormatUint(uint64(t.Fee), 10)))
	}
	if t.GasLimit > 0 {
		fee = append(fee, number(2, t.GasLimit)...)
	}
	info := append(field(1, text(1, "/cosmos.crypto."+t.Signer.Type().String()+".PubKey"), field(2, field(1, t.Signer.Bytes()))), field(2, field(1, number(1, 1)))...)
	if t.Sequence > 0 {
		info = append(info, number(3, t.Sequence)...)
	}
	return bytes.Join([][]byte{field(1, body), field(2, field(1, info), field(2, fee)), field(3, t.Signature)}, nil)
}

func FuzzDecodeMsg(f *testing.F) {
	for i, m := range samples(f) {
		f.Add(byte(i), tx.EncodeMsg(m).Value)
	}
	urls := tx.TypeURLs()
	f.Fuzz(func(t *testing.T, which byte, value []byte) {
		m, err := tx.DecodeMsg(urls[int(which)%len(urls)], value)
		if err != nil {
			require.ErrorIs(t, err, mman.ErrTxDecode)
			return
		}
		require.Equal(t, value, tx.EncodeMsg(m).Value)
	})
}
