package genesis_test

import (
	"encoding/base64"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/sig"
)

func document() genesis.Document {
	return genesis.Document{
		ChainID: "mman-local-00c0ffee", Network: genesis.Local, InitialHeight: 1, Params: genesis.Defaults(genesis.Local),
		Accounts: []genesis.Account{{mman.Address{2}, 5 * mman.MAN}, {mman.Address{1}, 7}},
		Validators: []genesis.Validator{
			{mman.Address{2}, "two", slices.Repeat([]byte{2}, 32), beaconKey(2), 10},
			{mman.Address{1}, "one", slices.Repeat([]byte{1}, 32), beaconKey(1), 20},
		},
	}
}

func beaconKey(seed byte) []byte {
	key, err := sig.FromSeed(sig.Ed25519, slices.Repeat([]byte{seed}, 32))
	if err != nil {
		panic(err)
	}
	return key.Public().Bytes()
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	d := document()
	b, err := d.Encode()
	require.NoError(t, err)
	got, err := genesis.Decode(b)
	require.NoError(t, err)
	require.Equal(t, d.Canonical(), got)
	require.Equal(t, mman.Address{2}, d.Accounts[0].Address, "the original keeps its order")
	again, err := got.Encode()
	require.NoError(t, err)
	require.Equal(t, string(b), string(again))
	require.Contains(t, string(b), base64.StdEncoding.EncodeToString(slices.Repeat([]byte{1}, 32)))

	hash, err := d.Hash()
	require.NoError(t, err)
	same, err := got.Hash()
	require.NoError(t, err)
	require.Equal(t, hash, same, "order does not matter")
	got.Params.BurnPPM++
	other, err := got.Hash()
	require.NoError(t, err)
	require.NotEqual(t, hash, other)
}

func TestChainID(t *testing.T) {
	t.Parallel()
	require.NoError(t, genesis.ValidChainID("mman-local-0102ff04"))
	for _, id := range []string{"", "mman-", "man-x", "mman-X", "mman-a_b", "mman-" + strings.Repeat("a", 41), "mman-a b", "mman-\x00"} {
		require.ErrorIs(t, genesis.ValidChainID(id), mman.ErrGenesis, id)
	}
}

func TestValidateRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(d *genesis.Document)
		says   string
	}{
		{"chain id", func(d *genesis.Document) { d.ChainID = "cosmos-1" }, "chain_id"},
		{"network", func(d *genesis.Document) { d.Network = "mainnet" }, "network"},
		{"height", func(d *genesis.Document) { d.InitialHeight = 2 }, "initial_height"},
		{"no accounts", func(d *genesis.Document) { d.Accounts = nil }, "accounts"},
		{"no coins", func(d *genesis.Document) { d.Accounts = []genesis.Account{{mman.Address{1}, 0}} }, "no coins"},
		{"zero address", func(d *genesis.Document) { d.Accounts[0].Address = mman.Address{} }, "accounts[0]"},
		{"double account", func(d *genesis.Document) { d.Accounts[1].Address = d.Accounts[0].Address }, "twice"},
		{"supply", func(d *genesis.Document) { d.Accounts[0].Balance = mman.MaxSupply }, "2^53-1"},
		{"supply beyond 64 bits", func(d *genesis.Document) { d.Accounts[0].Balance = 1<<64 - 1 }, "2^53-1"},
		{"no validators", func(d *genesis.Document) { d.Validators = nil }, "validators"},
		{"too many validators", func(d *genesis.Document) { d.Validators = make([]genesis.Validator, 129) }, "129"},
		{"no beacon key", func(d *genesis.Document) { d.Validators[1].BeaconKey = nil }, "beacon_key"},
		{"a beacon key that is no point", func(d *genesis.Document) { d.Validators[1].BeaconKey = slices.Repeat([]byte{0xff}, 32) }, "beacon_key"},
		{"no operator", func(d *genesis.Document) { d.Validators[1].Operator = mman.Address{} }, "operator"},
		{"double operator", func(d *genesis.Document) { d.Validators[1].Operator = d.Validators[0].Operator }, "twice"},
		{"short key", func(d *genesis.Document) { d.Validators[0].ConsensusKey = []byte{1} }, "consensus_key"},
		{"double key", func(d *genesis.Document) { d.Validators[1].ConsensusKey = d.Validators[0].ConsensusKey }, "twice"},
		{"no power", func(d *genesis.Document) { d.Validators[0].Power = 0 }, "power"},
		{"too much power", func(d *genesis.Document) { d.Validators[0].Power = genesis.MaxPower }, "power"},
		{"power beyond 64 bits", func(d *genesis.Document) { d.Validators[0].Power = 1<<64 - 1 }, "power"},
		{"name", func(d *genesis.Document) { d.Validators[0].Name = "a\nb" }, "name"},
		{"burn", func(d *genesis.Document) { d.Params.BurnPPM = 0 }, "burn_ppm"},
		{"gas of a tx above a block's", func(d *genesis.Document) { d.Params.MaxGasPerTx = d.Params.MaxGasPerBlock + 1 }, "max_gas_per_tx"},
		{"unbonding that ends before evidence does", func(d *genesis.Document) {
			d.Params.UnbondingBlocks = d.Params.EvidenceMaxBlocks + 2*d.Params.EpochBlocks - 1
		}, "unbonding_blocks"},
		{"unbonding in the time of evidence", func(d *genesis.Document) { d.Params.UnbondingSeconds = d.Params.EvidenceMaxSeconds }, "unbonding_seconds"},
		{"evidence above the block", func(d *genesis.Document) { d.Params.BlockMaxBytes, d.Params.EvidenceMaxBytes = 256<<10, 512<<10 }, "evidence_max_bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := document()
			tc.change(&d)
			err := d.Validate()
			require.ErrorIs(t, err, mman.ErrGenesis)
			require.ErrorContains(t, err, tc.says)
			_, err = d.Encode()
			require.ErrorIs(t, err, mman.ErrGenesis)
			_, err = d.Hash()
			require.ErrorIs(t, err, mman.ErrGenesis)
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	b, err := document().Encode()
	require.NoError(t, err)
	good := string(b)
	for _, tc := range []struct{ name, text string }{
		{"nothing", ""},
		{"null", "null"},
		{"a list", "[]"},
		{"no json", "{"},
		{"something behind it", good + "{}"},
		{"unknown key", strings.Replace(good, `"network"`, `"colour": 1, "network"`, 1)},
		{"double key", strings.Replace(good, `"network"`, `"chain_id": "mman-x", "network"`, 1)},
		{"double key in another case", strings.Replace(good, `"network"`, `"CHAIN_ID": "mman-x", "network"`, 1)},
		{"double parameter", strings.Replace(good, `"grace_blocks"`, `"grace_blocks": 7, "grace_blocks"`, 1)},
		{"number too large", strings.Replace(good, `"power": 10`, `"power": 18446744073709551616`, 1)},
		{"negative number", strings.Replace(good, `"power": 10`, `"power": -1`, 1)},
		{"number with a point", strings.Replace(good, `"power": 10`, `"power": 1.5`, 1)},
		{"address with an error", strings.Replace(good, mman.Address{1}.String(), "man1qqq", 1)},
		{"missing parameter", strings.Replace(good, `"grace_blocks": 100,`, "", 1)},
		{"too long", strings.Repeat(" ", genesis.MaxBytes) + good},
		{"nested without end", strings.Repeat("[", 100_000)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			require.NotEqual(t, good, tc.text)
			_, err := genesis.Decode([]byte(tc.text))
			require.ErrorIs(t, err, mman.ErrGenesis)
		})
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	local, public := genesis.Defaults(genesis.Local), genesis.Defaults(genesis.Public)
	require.NoError(t, local.Validate())
	require.NoError(t, public.Validate())
	require.Equal(t, public, genesis.Defaults(genesis.Test))
	names := map[string]bool{}
	for _, row := range genesis.Table() {
		require.False(t, names[row.Name], row.Name)
		names[row.Name] = true
		require.NotEmpty(t, row.Unit, row.Name)
		require.Greater(t, len(row.Reason), 10, row.Name)
		require.Equal(t, row.Local, row.Of(local), row.Name)
		require.Equal(t, row.Public, row.Of(public), row.Name)
		require.LessOrEqual(t, row.Min, row.Max, row.Name)
		require.Positive(t, row.Min, "%s: a parameter that a document leaves out would pass", row.Name)
	}
	// Every row has a field of its own: the JSON has one number for each.
	b, err := document().Encode()
	require.NoError(t, err)
	text := string(b)
	for name := range names {
		leaf := name[strings.LastIndex(name, ".")+1:]
		require.Equal(t, 1, strings.Count(text, `"`+leaf+`":`), leaf)
	}
	require.Len(t, names, strings.Count(text[strings.Index(text, `"params"`):strings.Index(text, `"accounts"`)], `": `)-2)
}

func TestFee(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		gas  uint64
		want mman.Amount
	}{{0, 0}, {1, 1}, {10, 1}, {11, 2}, {1_000_000, 100_000}} {
		got, err := genesis.FeeAt(100_000, tc.gas)
		require.NoError(t, err)
		require.Equal(t, tc.want, got, "%d gas", tc.gas)
	}
	_, err := genesis.FeeAt(1<<60, 1<<60)
	require.ErrorIs(t, err, mman.ErrOverflow)
}

func TestNextBaseFee(t *testing.T) {
	t.Parallel()
	p := genesis.Defaults(genesis.Local)
	p.MaxGasPerBlock, p.BaseFeeFloorMicro = 16_000_000, 1000
	for _, tc := range []struct{ base, used, want uint64 }{
		{100_000, 8_000_000, 100_000},
		{100_000, 16_000_000, 112_500},
		{100_000, 99_000_000, 112_500},
		{100_000, 0, 87_500},
		{100_000, 4_000_000, 93_750},
		{100_000, 8_000_001, 100_001},
		{100_000, 7_999_999, 99_999},
		{1001, 0, 1000},
		{1000, 0, 1000},
		{1000, 16_000_000, 1125},
		{genesis.MaxBaseFeeMicro, 16_000_000, genesis.MaxBaseFeeMicro},
	} {
		got, err := p.NextBaseFee(tc.base, tc.used)
		require.NoError(t, err)
		require.Equal(t, tc.want, got, "%d after %d gas", tc.base, tc.used)
	}
	// Against the rule in big numbers, for all that genesis allows.
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 2000 {
		p.MaxGasPerBlock = 1_000_000 + rng.Uint64N(10_000_000_000-1_000_000)
		base, used, target := 1000+rng.Uint64N(genesis.MaxBaseFeeMicro-1000), rng.Uint64N(p.MaxGasPerBlock+1), p.MaxGasPerBlock/2
		step := new(big.Int).Sub(new(big.Int).SetUint64(min(used, 2*target)), new(big.Int).SetUint64(target))
		sign := int64(step.Sign())
		step.Abs(step).Mul(step, new(big.Int).SetUint64(base)).Quo(step, new(big.Int).SetUint64(8*target))
		want := int64(base) + sign*max(step.Int64(), 1)
		got, err := p.NextBaseFee(base, used)
		require.NoError(t, err)
		require.Equal(t, uint64(min(max(want, 1000), genesis.MaxBaseFeeMicro)), got, "seed %d: %d after %d of %d", seed, base, used, p.MaxGasPerBlock)
	}
}

func FuzzDecode(f *testing.F) {
	b, err := document().Encode()
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte(`{"chain_id":"mman-x"}`))
	f.Add([]byte(`{"a":{"a":[{"b":1}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := genesis.Decode(b)
		if err != nil {
			require.ErrorIs(t, err, mman.ErrGenesis)
			return
		}
		out, err := d.Encode()
		require.NoError(t, err)
		again, err := genesis.Decode(out)
		require.NoError(t, err)
		require.Equal(t, d.Canonical(), again)
	})
}
