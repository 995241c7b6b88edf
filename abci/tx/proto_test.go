package tx_test

import (
	"bytes"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/sig"
)

// schema compiles the .proto files beside this package, so that the protobuf
// library, which knows nothing of our reader, is the oracle for it. The parser
// knows what the files use: messages of scalar, enum and message fields.
type schema struct{ files *protoregistry.Files }

func loadSchema(t *testing.T) schema {
	t.Helper()
	set := &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(anypb.File_google_protobuf_any_proto)}}
	require.NoError(t, filepath.WalkDir("proto", func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			set.File = append(set.File, parseProto(t, path))
		}
		return err
	}))
	files, err := protodesc.NewFiles(set)
	require.NoError(t, err)
	return schema{files}
}

func parseProto(t *testing.T, path string) *descriptorpb.FileDescriptorProto {
	t.Helper()
	source, err := os.ReadFile(path)
	require.NoError(t, err)
	rel, err := filepath.Rel("proto", path)
	require.NoError(t, err)
	file := &descriptorpb.FileDescriptorProto{Name: new(filepath.ToSlash(rel)), Syntax: new("proto3")}
	text := regexp.MustCompile(`//[^\n]*`).ReplaceAllString(string(source), "")
	head := regexp.MustCompile(`(?m)^(package|import) "?([^";]+)"?;`)
	for _, m := range head.FindAllStringSubmatch(text, -1) {
		if m[1] == "package" {
			file.Package = new(m[2])
		} else {
			file.Dependency = append(file.Dependency, m[2])
		}
	}
	block := regexp.MustCompile(`(message|enum) (\w+) \{([^}]*)\}`)
	value := regexp.MustCompile(`(\w+) = (\d+);`)
	field := regexp.MustCompile(`(repeated )?([\w.]+) (\w+) = (\d+);`)
	for _, m := range block.FindAllStringSubmatch(text, -1) {
		if m[1] == "enum" {
			e := &descriptorpb.EnumDescriptorProto{Name: new(m[2])}
			for _, v := range value.FindAllStringSubmatch(m[3], -1) {
				e.Value = append(e.Value, &descriptorpb.EnumValueDescriptorProto{Name: new(v[1]), Number: atoi(t, v[2])})
			}
			file.EnumType = append(file.EnumType, e)
			continue
		}
		d := &descriptorpb.DescriptorProto{Name: new(m[2])}
		for _, f := range field.FindAllStringSubmatch(m[3], -1) {
			d.Field = append(d.Field, parseField(t, file.GetPackage(), f))
		}
		require.NotEmpty(t, d.GetField(), m[2])
		file.MessageType = append(file.MessageType, d)
	}
	return file
}

func parseField(t *testing.T, pkg string, f []string) *descriptorpb.FieldDescriptorProto {
	t.Helper()
	d := &descriptorpb.FieldDescriptorProto{Name: new(f[3]), Number: atoi(t, f[4]), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
	if f[1] != "" {
		d.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	}
	switch typ := f[2]; {
	case typ == "string":
		d.Type = descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()
	case typ == "bytes":
		d.Type = descriptorpb.FieldDescriptorProto_TYPE_BYTES.Enum()
	case typ == "uint64":
		d.Type = descriptorpb.FieldDescriptorProto_TYPE_UINT64.Enum()
	case strings.Contains(typ, "."):
		d.TypeName = new("." + typ)
	default:
		d.TypeName = new("." + pkg + "." + typ)
	}
	return d
}

func atoi(t *testing.T, s string) *int32 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 32)
	require.NoError(t, err)
	return new(int32(n))
}

// message builds and encodes a message from its fields: []byte, string, uint64,
// protoreflect.EnumNumber, or encoded sub-messages as sub, lists as []any.
func (s schema) message(t *testing.T, name string, fields map[string]any) []byte {
	t.Helper()
	found, err := s.files.FindDescriptorByName(protoreflect.FullName(name))
	require.NoError(t, err)
	desc, ok := found.(protoreflect.MessageDescriptor)
	require.True(t, ok)
	m := dynamicpb.NewMessage(desc)
	for name, v := range fields {
		fd := desc.Fields().ByName(protoreflect.Name(name))
		require.NotNil(t, fd, name)
		if list, ok := v.([]any); ok {
			for _, e := range list {
				m.Mutable(fd).List().Append(s.value(t, fd, e))
			}
			continue
		}
		m.Set(fd, s.value(t, fd, v))
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	require.NoError(t, err)
	return b
}

type sub []byte

func (s schema) value(t *testing.T, fd protoreflect.FieldDescriptor, v any) protoreflect.Value {
	t.Helper()
	raw, ok := v.(sub)
	if !ok {
		return protoreflect.ValueOf(v)
	}
	m := dynamicpb.NewMessage(fd.Message())
	require.NoError(t, proto.Unmarshal(raw, m))
	return protoreflect.ValueOfMessage(m)
}

func (s schema) any(t *testing.T, typeURL string, value []byte) sub {
	t.Helper()
	return s.message(t, "google.protobuf.Any", map[string]any{"type_url": typeURL, "value": value})
}

func TestEnvelopeAgainstProtobuf(t *testing.T) {
	t.Parallel()
	s := loadSchema(t)
	for _, typ := range []sig.KeyType{sig.Ed25519, sig.Secp256k1} {
		t.Run(typ.String(), func(t *testing.T) {
			t.Parallel()
			k := key(t, typ, 1)
			coin := func(n string) []any {
				return []any{sub(s.message(t, "cosmos.base.v1beta1.Coin", map[string]any{"denom": "uman", "amount": n}))}
			}
			send := s.message(t, "cosmos.bank.v1beta1.MsgSend", map[string]any{
				"from_address": k.Public().Address().String(), "to_address": address(t, 2).String(), "amount": coin("1234567"),
			})
			body := s.message(t, "cosmos.tx.v1beta1.TxBody", map[string]any{
				"messages": []any{s.any(t, "/cosmos.bank.v1beta1.MsgSend", send)}, "memo": "hello", "timeout_height": uint64(300),
			})
			pub := s.message(t, "cosmos.crypto."+typ.String()+".PubKey", map[string]any{"key": k.Public().Bytes()})
			single := s.message(t, "cosmos.tx.v1beta1.Single", map[string]any{"mode": protoreflect.EnumNumber(1)})
			info := s.message(t, "cosmos.tx.v1beta1.SignerInfo", map[string]any{
				"public_key": s.any(t, "/cosmos.crypto."+typ.String()+".PubKey", pub),
				"mode_info":  sub(s.message(t, "cosmos.tx.v1beta1.ModeInfo", map[string]any{"single": sub(single)})),
				"sequence":   uint64(7),
			})
			fee := s.message(t, "cosmos.tx.v1beta1.Fee", map[string]any{"amount": coin("2000"), "gas_limit": uint64(200_000)})
			auth := s.message(t, "cosmos.tx.v1beta1.AuthInfo", map[string]any{"signer_infos": []any{sub(info)}, "fee": sub(fee)})
			doc := s.message(t, "cosmos.tx.v1beta1.SignDoc", map[string]any{
				"body_bytes": body, "auth_info_bytes": auth, "chain_id": chainID, "account_number": uint64(3),
			})
			raw := s.message(t, "cosmos.tx.v1beta1.TxRaw", map[string]any{
				"body_bytes": body, "auth_info_bytes": auth, "signatures": []any{k.Sign(doc)},
			})

			got, err := tx.Decode(raw)
			require.NoError(t, err)
			require.NoError(t, got.Verify(chainID, 3))
			require.Equal(t, doc, got.SignBytes(chainID, 3))
			made, err := tx.Sign(k, chainID, 3, tx.Draft{
				Msgs: []tx.Msg{tx.MsgSend{From: k.Public().Address(), To: address(t, 2), Amount: 1_234_567}},
				Memo: "hello", TimeoutHeight: 300, Sequence: 7, Fee: 2000, GasLimit: 200_000,
			})
			require.NoError(t, err)
			require.Equal(t, raw, made.Raw())
		})
	}
}

// Every message that we encode must survive the protobuf library unchanged,
// with no field that the .proto files do not know.
func TestMessagesAgainstProtobuf(t *testing.T) {
	t.Parallel()
	s := loadSchema(t)
	for _, m := range samples(t) {
		name := strings.TrimPrefix(m.TypeURL(), "/")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found, err := s.files.FindDescriptorByName(protoreflect.FullName(name))
			require.NoError(t, err)
			desc, ok := found.(protoreflect.MessageDescriptor)
			require.True(t, ok)
			d := dynamicpb.NewMessage(desc)
			require.NoError(t, proto.Unmarshal(tx.EncodeMsg(m).Value, d))
			noUnknown(t, d)
			for i := range desc.Fields().Len() {
				require.True(t, d.Has(desc.Fields().Get(i)), "the sample sets %s", desc.Fields().Get(i).Name())
			}
			again, err := proto.MarshalOptions{Deterministic: true}.Marshal(d)
			require.NoError(t, err)
			require.Equal(t, tx.EncodeMsg(m).Value, again)
		})
	}
	t.Run("TxMsgData", func(t *testing.T) {
		t.Parallel()
		want := s.message(t, "cosmos.base.abci.v1beta1.TxMsgData", map[string]any{"msg_responses": []any{
			s.any(t, tx.TypeSend+"Response", nil), s.any(t, tx.TypeOffer+"Response", nil),
		}})
		require.Equal(t, want, tx.ResultData([]string{tx.TypeSend, tx.TypeOffer}))
	})
}

func noUnknown(t *testing.T, m protoreflect.Message) {
	t.Helper()
	require.Empty(t, m.GetUnknown())
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.Message() != nil && fd.IsList() {
			for i := range v.List().Len() {
				noUnknown(t, v.List().Get(i).Message())
			}
		}
		return true
	})
}

// The published test vectors of the CosmJS wallet library (proto-signing,
// account "faucet", chain id simd-testing, account number 1): the envelope is
// put together by hand, and the wallet's signatures verify over our sign bytes.
// sdk/keyring checks that we make the same signatures.
func TestSignBytesOfCosmJS(t *testing.T) {
	t.Parallel()
	var body, auth []byte
	pub, err := sig.NewPublicKey(sig.Secp256k1, unhex(t, "034f04181eeba35391b858633a765c4a0c189697b40d216354d50890d350c70290"))
	require.NoError(t, err)
	for sequence, signature := range []string{
		"c9dd20e07464d3a688ff4b710b1fbc027e495e797cfa0b4804da2ed117959227772de059808f765aa29b8f92edf30f4c2c5a438e30d3fe6897daa7141e3ce6f9",
		"525adc7e61565a509c60497b798c549fbf217bb5cd31b24cc9b419d098cc95330c99ecc4bc72448f85c365a4e3f91299a3d40412fb3751bab82f1940a83a0a4c",
		"f3f2ca73806f2abbf6e0fe85f9b8af66f0e9f7f79051fdb8abe5bb8633b17da132e82d577b9d5f7a6dae57a144efc9ccc6eef15167b44b3b22a57240109762af",
	} {
		body, auth = cosmJSVector(pub.Bytes(), uint64(sequence))
		require.True(t, pub.Verify(tx.SignBytes(body, auth, "simd-testing", 1), unhex(t, signature)), "sequence %d", sequence)
		require.False(t, pub.Verify(tx.SignBytes(body, auth, "simd-testing", 2), unhex(t, signature)))
	}
	// Its denomination is foreign, so the transaction itself is refused.
	_, err = tx.Decode(append(append(field(1, body), field(2, auth)...), field(3, make([]byte, 64))...))
	require.ErrorIs(t, err, mman.ErrTxDecode)
	require.ErrorContains(t, err, "ucosm")
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

func cosmJSVector(pub []byte, sequence uint64) (body, auth []byte) {
	coin := func(n string) []byte { return append(text(1, "ucosm"), text(2, n)...) }
	send := append(text(1, "cosmos1pkptre7fdkl6gfrzlesjjvhxhlc3r4gmmk8rs6"), text(2, "cosmos1qypqxpq9qcrsszg2pvxq6rs0zqg3yyc5lzv7xu")...)
	send = append(send, field(3, coin("1234567"))...)
	body = field(1, text(1, tx.TypeSend), field(2, send))
	info := append(field(1, text(1, "/cosmos.crypto.secp256k1.PubKey"), field(2, field(1, pub))), field(2, field(1, number(1, 1)))...)
	if sequence > 0 {
		info = append(info, number(3, sequence)...)
	}
	fee := append(field(1, coin("2000")), number(2, 200_000)...)
	return body, append(field(1, info), field(2, fee)...)
}

// What wallets ask and are answered, against the protobuf library.
func TestWalletQueriesAgainstProtobuf(t *testing.T) {
	t.Parallel()
	s := loadSchema(t)
	k := key(t, sig.Secp256k1, 1)
	a := k.Public().Address()
	coin := func(n string) sub {
		return s.message(t, "cosmos.base.v1beta1.Coin", map[string]any{"denom": "uman", "amount": n})
	}
	pub := s.any(t, "/cosmos.crypto.secp256k1.PubKey", s.message(t, "cosmos.crypto.secp256k1.PubKey", map[string]any{"key": k.Public().Bytes()}))
	account := s.message(t, "cosmos.auth.v1beta1.BaseAccount", map[string]any{
		"address": a.String(), "pub_key": pub, "account_number": uint64(3), "sequence": uint64(4),
	})
	require.Equal(t, s.message(t, "cosmos.auth.v1beta1.QueryAccountResponse", map[string]any{"account": s.any(t, "/cosmos.auth.v1beta1.BaseAccount", account)}),
		tx.EncodeAccountAnswer(a, k.Public(), 3, 4))
	fresh := s.message(t, "cosmos.auth.v1beta1.BaseAccount", map[string]any{"address": a.String()})
	require.Equal(t, s.message(t, "cosmos.auth.v1beta1.QueryAccountResponse", map[string]any{"account": s.any(t, "/cosmos.auth.v1beta1.BaseAccount", fresh)}),
		tx.EncodeAccountAnswer(a, sig.PublicKey{}, 0, 0))
	require.Equal(t, s.message(t, "cosmos.bank.v1beta1.QueryBalanceResponse", map[string]any{"balance": coin("0")}), tx.EncodeBalanceAnswer("uman", 0))
	require.Equal(t, s.message(t, "cosmos.bank.v1beta1.QueryAllBalancesResponse", map[string]any{"balances": []any{coin("7")}}), tx.EncodeBalancesAnswer(7))
	require.Empty(t, tx.EncodeBalancesAnswer(0))
	gas := s.message(t, "cosmos.base.abci.v1beta1.GasInfo", map[string]any{"gas_wanted": uint64(8), "gas_used": uint64(9)})
	result := s.message(t, "cosmos.base.abci.v1beta1.Result", map[string]any{"data": []byte{1}})
	require.Equal(t, s.message(t, "cosmos.tx.v1beta1.SimulateResponse", map[string]any{"gas_info": sub(gas), "result": sub(result)}),
		tx.EncodeSimulateAnswer(8, 9, []byte{1}))

	got, err := tx.DecodeAddressQuery(s.message(t, "cosmos.auth.v1beta1.QueryAccountRequest", map[string]any{"address": a.String()}))
	require.NoError(t, err)
	require.Equal(t, a, got)
	got, denom, err := tx.DecodeBalanceQuery(s.message(t, "cosmos.bank.v1beta1.QueryBalanceRequest", map[string]any{"address": a.String(), "denom": "uman"}))
	require.NoError(t, err)
	require.Equal(t, a, got)
	require.Equal(t, "uman", denom)
	// A page that a wallet asks for is skipped.
	got, err = tx.DecodeAddressQuery(append(text(1, a.String()), field(2, number(3, 100))...))
	require.NoError(t, err)
	require.Equal(t, a, got)
	raw, err := tx.DecodeSimulateQuery(s.message(t, "cosmos.tx.v1beta1.SimulateRequest", map[string]any{"tx_bytes": []byte{1, 2}}))
	require.NoError(t, err)
	require.Equal(t, []byte{1, 2}, raw)
	for _, bad := range [][]byte{nil, {0x0a}, {0x0a, 0x05, 'x'}, text(1, "man1"), bytes.Repeat([]byte{0x08, 0x01}, 600)} {
		_, err := tx.DecodeAddressQuery(bad)
		require.Error(t, err)
		_, _, err = tx.DecodeBalanceQuery(bad)
		require.Error(t, err)
	}
	_, err = tx.DecodeSimulateQuery(make([]byte, 70<<10))
	require.ErrorIs(t, err, mman.ErrTooLarge)
}

// A draft as CosmJS writes it decodes for Simulate and nowhere else.
func TestDraftOfCosmJS(t *testing.T) {
	t.Parallel()
	k := key(t, sig.Secp256k1, 1)
	send := tx.EncodeMsg(tx.MsgSend{From: k.Public().Address(), To: address(t, 2), Amount: 5})
	body := field(1, text(1, send.TypeURL), field(2, send.Value))
	pub := field(1, text(1, "/cosmos.crypto.secp256k1.PubKey"), field(2, field(1, k.Public().Bytes())))
	info := append(append(pub, field(2, field(1))...), number(3, 7)...)
	raw := append(append(field(1, body), field(2, append(field(1, info), field(2)...))...), field(3)...)
	_, err := tx.Decode(raw)
	require.ErrorIs(t, err, mman.ErrTxDecode)
	draft, err := tx.DecodeDraft(raw)
	require.NoError(t, err)
	require.Equal(t, uint64(7), draft.Sequence)
	require.Zero(t, draft.Fee)
	for _, fee := range []mman.Amount{1, mman.MaxSupply} {
		signed, err := tx.Sign(k, chainID, 3, tx.Draft{
			Msgs: []tx.Msg{tx.MsgSend{From: k.Public().Address(), To: address(t, 2), Amount: 5}}, Sequence: 7, Fee: fee, GasLimit: 1_000_000_000,
		})
		require.NoError(t, err)
		require.LessOrEqual(t, len(signed.Raw()), tx.DraftSize(draft), "the gas of the draft is enough for the transaction")
		again, err := tx.DecodeDraft(signed.Raw())
		require.NoError(t, err)
		require.Equal(t, len(signed.Raw()), tx.DraftSize(again))
	}
	_, err = tx.DecodeDraft(append(raw, 0))
	require.ErrorIs(t, err, mman.ErrTxDecode)
	_, err = tx.DecodeDraft(make([]byte, 65<<10))
	require.ErrorIs(t, err, mman.ErrTxDecode)
}
