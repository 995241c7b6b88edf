package genesis

import (
	"fmt"

	mman "github.com/limboid/massive-man"
)

// Params are the values that every node of a chain must agree on. They are
// stored in state at the first block and read from there. Each field's unit,
// bounds and reason stand in Table.
type Params struct {
	GraceBlocks          uint64 `cbor:"grace_blocks"           json:"grace_blocks"`
	DisputeBlocks        uint64 `cbor:"dispute_blocks"         json:"dispute_blocks"`
	MaxOfferBlocks       uint64 `cbor:"max_offer_blocks"       json:"max_offer_blocks"`
	MaxLeaseBlocks       uint64 `cbor:"max_lease_blocks"       json:"max_lease_blocks"`
	MaxRequestBlocks     uint64 `cbor:"max_request_blocks"     json:"max_request_blocks"`
	MaxQueuedPerAccount  uint64 `cbor:"max_queued_per_account" json:"max_queued_per_account"`
	MatchPerBlock        uint64 `cbor:"match_per_block"        json:"match_per_block"`
	LooksPerBlock        uint64 `cbor:"looks_per_block"        json:"looks_per_block"`
	WakeBlocks           uint64 `cbor:"wake_blocks"            json:"wake_blocks"`
	OfferDeposit         uint64 `cbor:"offer_deposit"          json:"offer_deposit"`
	AcceptBlocks         uint64 `cbor:"accept_blocks"          json:"accept_blocks"`
	RFPPostBlocks        uint64 `cbor:"rfp_post_blocks"        json:"rfp_post_blocks"`
	RFPRevealBlocks      uint64 `cbor:"rfp_reveal_blocks"      json:"rfp_reveal_blocks"`
	MaxGrantBlocks       uint64 `cbor:"max_grant_blocks"       json:"max_grant_blocks"`
	BurnPPM              uint64 `cbor:"burn_ppm"               json:"burn_ppm"`
	BaseFeeMicro         uint64 `cbor:"base_fee_micro"         json:"base_fee_micro"`
	BaseFeeFloorMicro    uint64 `cbor:"base_fee_floor_micro"   json:"base_fee_floor_micro"`
	FeeBurnPPM           uint64 `cbor:"fee_burn_ppm"           json:"fee_burn_ppm"`
	Gas                  Gas    `cbor:"gas"                    json:"gas"`
	MaxGasPerTx          uint64 `cbor:"max_gas_per_tx"         json:"max_gas_per_tx"`
	MaxGasPerBlock       uint64 `cbor:"max_gas_per_block"      json:"max_gas_per_block"`
	TxMaxBytes           uint64 `cbor:"tx_max_bytes"           json:"tx_max_bytes"`
	BlockMaxBytes        uint64 `cbor:"block_max_bytes"        json:"block_max_bytes"`
	EvidenceMaxBytes     uint64 `cbor:"evidence_max_bytes"     json:"evidence_max_bytes"`
	EvidenceMaxBlocks    uint64 `cbor:"evidence_max_age_blocks"  json:"evidence_max_age_blocks"`
	EvidenceMaxSeconds   uint64 `cbor:"evidence_max_age_seconds" json:"evidence_max_age_seconds"`
	StorageEpochBlocks   uint64 `cbor:"storage_epoch_blocks"   json:"storage_epoch_blocks"`
	StorageWindowBlocks  uint64 `cbor:"storage_window_blocks"  json:"storage_window_blocks"`
	StorageAcceptBlocks  uint64 `cbor:"storage_accept_blocks"  json:"storage_accept_blocks"`
	StorageDepositEpochs uint64 `cbor:"storage_deposit_epochs" json:"storage_deposit_epochs"`
	StorageMaxEpochs     uint64 `cbor:"storage_max_epochs"     json:"storage_max_epochs"`
	EpochBlocks          uint64 `cbor:"epoch_blocks"           json:"epoch_blocks"`
	UnbondingBlocks      uint64 `cbor:"unbonding_blocks"       json:"unbonding_blocks"`
	UnbondingSeconds     uint64 `cbor:"unbonding_seconds"      json:"unbonding_seconds"`
	MaxValidators        uint64 `cbor:"max_validators"         json:"max_validators"`
	MaxCandidates        uint64 `cbor:"max_candidates"         json:"max_candidates"`
	PowerUnit            uint64 `cbor:"power_unit"             json:"power_unit"`
	MinSelfStake         uint64 `cbor:"min_self_stake"         json:"min_self_stake"`
	SlashDoublePPM       uint64 `cbor:"slash_double_ppm"       json:"slash_double_ppm"`
	SlashDowntimePPM     uint64 `cbor:"slash_downtime_ppm"     json:"slash_downtime_ppm"`
	ReporterPPM          uint64 `cbor:"reporter_ppm"           json:"reporter_ppm"`
	LivenessEpochs       uint64 `cbor:"liveness_epochs"        json:"liveness_epochs"`
	MaxMissedBlocks      uint64 `cbor:"max_missed_blocks"      json:"max_missed_blocks"`
	JailBlocks           uint64 `cbor:"jail_blocks"            json:"jail_blocks"`
}

// Gas is the gas table. What a transaction needs at least, by its bytes and messages,
// is known before it runs; reading and writing the state is counted beside it.
type Gas struct {
	TxBase        uint64 `cbor:"tx_base"        json:"tx_base"`
	PerByte       uint64 `cbor:"per_byte"       json:"per_byte"`
	Ed25519       uint64 `cbor:"ed25519"        json:"ed25519"`
	Secp256k1     uint64 `cbor:"secp256k1"      json:"secp256k1"`
	Read          uint64 `cbor:"read"           json:"read"`
	Write         uint64 `cbor:"write"          json:"write"`
	Send          uint64 `cbor:"send"           json:"send"`
	SendOutput    uint64 `cbor:"send_output"    json:"send_output"`
	BindNode      uint64 `cbor:"bind_node"      json:"bind_node"`
	Offer         uint64 `cbor:"offer"          json:"offer"`
	WithdrawOffer uint64 `cbor:"withdraw_offer" json:"withdraw_offer"`
	Request       uint64 `cbor:"request"        json:"request"`
	Look          uint64 `cbor:"look"           json:"look"`
	CancelRequest uint64 `cbor:"cancel_request" json:"cancel_request"`
	Settle        uint64 `cbor:"settle"         json:"settle"`
	SettleItem    uint64 `cbor:"settle_item"    json:"settle_item"`
	CloseLease    uint64 `cbor:"close_lease"    json:"close_lease"`
	AcceptLease   uint64 `cbor:"accept_lease"   json:"accept_lease"`
	Grant         uint64 `cbor:"grant"          json:"grant"`
	CommitBid     uint64 `cbor:"commit_bid"     json:"commit_bid"`
	RevealBid     uint64 `cbor:"reveal_bid"     json:"reveal_bid"`
	Stake         uint64 `cbor:"stake"          json:"stake"`
	Storage       uint64 `cbor:"storage"        json:"storage"`
	StorageProof  uint64 `cbor:"storage_proof"  json:"storage_proof"`

	CreateValidator uint64 `cbor:"create_validator" json:"create_validator"`
}

// Parameter is one row of the table of parameters.
type Parameter struct {
	// Name is the JSON path within Params.
	Name string
	// Unit in which the values count.
	Unit string
	// Local and Public are the defaults of a local network, and of test and
	// public networks.
	Local, Public uint64
	// Min and Max are the bounds, both included.
	Min, Max uint64
	// Reason says why it exists and why it has this value.
	Reason string

	field func(*Params) *uint64
}

// Of returns the parameter's value in p.
func (r Parameter) Of(p Params) uint64 { return *r.field(&p) }

// Table returns every parameter in the order of the docs. The caller owns the
// slice.
func Table() []Parameter {
	const gasMax = 100_000_000
	gas := func(name string, value uint64, reason string, field func(*Params) *uint64) Parameter {
		return Parameter{"gas." + name, "gas", value, value, 1, gasMax, reason, field}
	}
	return []Parameter{
		{
			"grace_blocks", "blocks", 100, 7200, 1, 604_800,
			"receipts settle this long after a lease expired, so that a provider who was offline is still paid",
			func(p *Params) *uint64 { return &p.GraceBlocks },
		},
		{
			"dispute_blocks", "blocks", 50, 7200, 1, 604_800,
			"a close without the provider's consent waits this long for later receipts: two hours in public",
			func(p *Params) *uint64 { return &p.DisputeBlocks },
		},
		{
			"max_offer_blocks", "blocks", 86_400, 86_400, 1, 2_592_000,
			"an offer stands a day at most unless it is renewed, so the book holds only what somebody still serves",
			func(p *Params) *uint64 { return &p.MaxOfferBlocks },
		},
		{
			"max_lease_blocks", "blocks", 86_400, 604_800, 1, 31_536_000,
			"bounds how long escrow and capacity can be held by one lease",
			func(p *Params) *uint64 { return &p.MaxLeaseBlocks },
		},
		{
			"max_request_blocks", "blocks", 3600, 3600, 1, 86_400,
			"bounds how long a request that nobody fills stays in the queue",
			func(p *Params) *uint64 { return &p.MaxRequestBlocks },
		},
		{
			"max_queued_per_account", "requests", 64, 64, 1, 1024,
			"one account cannot fill the queue of all",
			func(p *Params) *uint64 { return &p.MaxQueuedPerAccount },
		},
		{
			"match_per_block", "requests", 256, 256, 1, 4096,
			"bounds the matching work of a block; more than the requests that fit in a block's gas, so that new ones never starve old ones",
			func(p *Params) *uint64 { return &p.MatchPerBlock },
		},
		{
			"looks_per_block", "offers", 8192, 8192, 64, 1 << 20,
			"bounds how many offers all requests of a block look at; what is left goes on in the next",
			func(p *Params) *uint64 { return &p.LooksPerBlock },
		},
		{
			"wake_blocks", "blocks", 20, 60, 1, 3600,
			"a request that only time keeps from an offer, for example office hours, is tried again so often",
			func(p *Params) *uint64 { return &p.WakeBlocks },
		},
		{
			"offer_deposit", "uman", 10_000, 1_000_000, 1, 1_000_000_000,
			"locked while an offer stands, and once more for each 1000 steps that its policy may cost: the book is not flooded for nothing",
			func(p *Params) *uint64 { return &p.OfferDeposit },
		},
		{
			"accept_blocks", "blocks", 20, 20, 2, 3600,
			"a lease that its provider has not accepted by then is cancelled at once by its consumer; three of these suspend the offer",
			func(p *Params) *uint64 { return &p.AcceptBlocks },
		},
		{
			"rfp_post_blocks", "blocks", 5, 60, 2, 3600,
			"after the last height for commitments a bidder has so long to bring one that its consumer left out: a node must see the block and have a transaction in one",
			func(p *Params) *uint64 { return &p.RFPPostBlocks },
		},
		{
			"rfp_reveal_blocks", "blocks", 15, 120, 2, 3600,
			"then bidders have so long to open their commitments; whoever does not loses its bond",
			func(p *Params) *uint64 { return &p.RFPRevealBlocks },
		},
		{
			"max_grant_blocks", "blocks", 2_592_000, 31_536_000, 1, 315_360_000,
			"bounds how long one grant can count, so that forgotten ones leave the state",
			func(p *Params) *uint64 { return &p.MaxGrantBlocks },
		},
		{
			"burn_ppm", "millionths", 20_000, 20_000, 5000, 100_000,
			"the part of each settled payment that is burned: paying oneself always loses",
			func(p *Params) *uint64 { return &p.BurnPPM },
		},
		{
			"base_fee_micro", "10^-6 uman per gas", 100_000, 100_000, 1, MaxBaseFeeMicro,
			"the base fee of the first block: a transfer of about 20,000 gas costs 0.002 MAN",
			func(p *Params) *uint64 { return &p.BaseFeeMicro },
		},
		{
			"base_fee_floor_micro", "10^-6 uman per gas", 1000, 1000, 1, MaxBaseFeeMicro,
			"the base fee of an idle chain: a transfer still costs 20 uman, so that spam is never free",
			func(p *Params) *uint64 { return &p.BaseFeeFloorMicro },
		},
		{
			"fee_burn_ppm", "millionths", 500_000, 500_000, 1, 1_000_000,
			"the part of each fee that is burned; the rest goes to the validators who signed",
			func(p *Params) *uint64 { return &p.FeeBurnPPM },
		},
		gas("tx_base", 8000, "reading and writing the signer's account", func(p *Params) *uint64 { return &p.Gas.TxBase }),
		gas("per_byte", 10, "every byte is sent to and stored by all", func(p *Params) *uint64 { return &p.Gas.PerByte }),
		gas("ed25519", 4000, "one verification, about 40 microseconds", func(p *Params) *uint64 { return &p.Gas.Ed25519 }),
		gas("secp256k1", 8000, "one verification, about 80 microseconds", func(p *Params) *uint64 { return &p.Gas.Secp256k1 }),
		gas("read", 300, "each key that a message looks up, and each record of a list", func(p *Params) *uint64 { return &p.Gas.Read }),
		gas("write", 1500, "each key that a message sets or deletes: hashed into the tree and stored", func(p *Params) *uint64 { return &p.Gas.Write }),
		gas("send", 1000, "the message itself", func(p *Params) *uint64 { return &p.Gas.Send }),
		gas("send_output", 500, "each payment, beside the message itself", func(p *Params) *uint64 { return &p.Gas.SendOutput }),
		gas("bind_node", 15_000, "one signature and up to eight addresses", func(p *Params) *uint64 { return &p.Gas.BindNode }),
		gas("offer", 30_000, "one signature, a policy to compile, and one large record", func(p *Params) *uint64 { return &p.Gas.Offer }),
		gas("withdraw_offer", 5000, "the message itself", func(p *Params) *uint64 { return &p.Gas.WithdrawOffer }),
		gas("look", 500, "one more offer that matching may look at for a request, some microseconds", func(p *Params) *uint64 { return &p.Gas.Look }),
		gas("request", 500_000, "escrow and queues, and matching looks at up to 256 offers", func(p *Params) *uint64 { return &p.Gas.Request }),
		gas("cancel_request", 5000, "the message itself", func(p *Params) *uint64 { return &p.Gas.CancelRequest }),
		gas("settle", 5000, "the message itself", func(p *Params) *uint64 { return &p.Gas.Settle }),
		gas("settle_item", 6000, "each receipt: one signature and the split; or each close", func(p *Params) *uint64 { return &p.Gas.SettleItem }),
		gas("close_lease", 8000, "the message itself, and what is left to pay", func(p *Params) *uint64 { return &p.Gas.CloseLease }),
		gas("accept_lease", 1500, "each lease, beside its record", func(p *Params) *uint64 { return &p.Gas.AcceptLease }),
		gas("grant", 12_000, "a policy to compile", func(p *Params) *uint64 { return &p.Gas.Grant }),
		gas("commit_bid", 20_000, "each commitment: one signature and a bond", func(p *Params) *uint64 { return &p.Gas.CommitBid }),
		gas("reveal_bid", 150_000, "the record, and a look of every award at the bid and at what stands beside it", func(p *Params) *uint64 { return &p.Gas.RevealBid }),
		gas("storage", 12_000, "a message about a storage lease, and each replica of a new one: the search for who holds it", func(p *Params) *uint64 { return &p.Gas.Storage }),
		gas("storage_proof", 5000, "each replica that is accepted or proved: some 25 hashes", func(p *Params) *uint64 { return &p.Gas.StorageProof }),
		gas("stake", 12_000, "the shares of a validator and a delegation", func(p *Params) *uint64 { return &p.Gas.Stake }),
		gas("create_validator", 45_000, "one signature, and a place among the candidates", func(p *Params) *uint64 { return &p.Gas.CreateValidator }),
		{
			"max_gas_per_tx", "gas", 20_000_000, 20_000_000, 1_000_000, 1_000_000_000,
			"a transaction of 32 requests fits",
			func(p *Params) *uint64 { return &p.MaxGasPerTx },
		},
		{
			"max_gas_per_block", "gas", 120_000_000, 120_000_000, 1_000_000, 10_000_000_000,
			"about one second of work on two cores; transfers meet the block's bytes first",
			func(p *Params) *uint64 { return &p.MaxGasPerBlock },
		},
		{
			"tx_max_bytes", "bytes", 64 << 10, 64 << 10, 4096, 64 << 10,
			"the decoder's own limit is 64 KiB",
			func(p *Params) *uint64 { return &p.TxMaxBytes },
		},
		{
			"block_max_bytes", "bytes", 1 << 20, 1 << 20, 256 << 10, 16 << 20,
			"CometBFT's own default is about 53 MiB, which home connections do not carry within a second",
			func(p *Params) *uint64 { return &p.BlockMaxBytes },
		},
		{
			"evidence_max_bytes", "bytes", 64 << 10, 64 << 10, 4096, 1 << 20,
			"evidence may take a small part of a block",
			func(p *Params) *uint64 { return &p.EvidenceMaxBytes },
		},
		{
			"evidence_max_age_blocks", "blocks", 800, 1_814_400, 1, 100_000_000,
			"evidence counts for three weeks in public, as long as stake can be slashed",
			func(p *Params) *uint64 { return &p.EvidenceMaxBlocks },
		},
		{
			"evidence_max_age_seconds", "seconds", 800, 1_814_400, 1, 31_536_000,
			"the same in time: evidence expires when both ages are reached",
			func(p *Params) *uint64 { return &p.EvidenceMaxSeconds },
		},
		{
			"storage_epoch_blocks", "blocks", 60, 7200, 8, 1_000_000,
			"each replica of a storage lease is proved and paid once in so many blocks: two hours in public",
			func(p *Params) *uint64 { return &p.StorageEpochBlocks },
		},
		{
			"storage_window_blocks", "blocks", 30, 3600, 2, 900_000,
			"a proof counts so long after its challenge: long enough for a restart, and shorter than the epoch by 4 at least",
			func(p *Params) *uint64 { return &p.StorageWindowBlocks },
		},
		{
			"storage_accept_blocks", "blocks", 100, 3600, 2, 1_000_000,
			"a provider that was given a replica has so long to have it; then another one is asked",
			func(p *Params) *uint64 { return &p.StorageAcceptBlocks },
		},
		{
			"storage_deposit_epochs", "epochs", 4, 24, 1, 10_000,
			"a holder's deposit in epochs of its pay, lost with the first epoch that it does not prove: dropping a part never saves what it risks",
			func(p *Params) *uint64 { return &p.StorageDepositEpochs },
		},
		{
			"storage_max_epochs", "epochs", 100_000, 4400, 1, 1_000_000,
			"a storage lease ends within so many epochs, a year in public, unless it is renewed: escrow is not held for ever",
			func(p *Params) *uint64 { return &p.StorageMaxEpochs },
		},
		{
			"epoch_blocks", "blocks", 100, 3600, 1, 100_000,
			"rewards, liveness and the election of validators happen at the end of each epoch: an hour in public",
			func(p *Params) *uint64 { return &p.EpochBlocks },
		},
		{
			"unbonding_blocks", "blocks", 1000, 2_000_000, 1, 200_000_000,
			"stake that leaves waits so long and can be slashed meanwhile: longer than evidence counts and two epochs",
			func(p *Params) *uint64 { return &p.UnbondingBlocks },
		},
		{
			"unbonding_seconds", "seconds", 1000, 2_000_000, 1, 100_000_000,
			"the same in time, because evidence counts until both of its ages are reached",
			func(p *Params) *uint64 { return &p.UnbondingSeconds },
		},
		{
			"max_validators", "validators", 64, 64, 1, MaxValidators,
			"each vote is sent to all and verified by all",
			func(p *Params) *uint64 { return &p.MaxValidators },
		},
		{
			"max_candidates", "validators", 1024, 1024, 1, 4096,
			"bounds the work of an election; one that has no stake left is forgotten",
			func(p *Params) *uint64 { return &p.MaxCandidates },
		},
		{
			"power_unit", "uman per vote", 1_000_000, 1_000_000, 1000, 1_000_000_000_000,
			"a vote for each MAN of active stake",
			func(p *Params) *uint64 { return &p.PowerUnit },
		},
		{
			"min_self_stake", "uman", 1_000_000, 1_000_000_000, 1, 1_000_000_000_000_000,
			"a validator risks coins of its own, 1000 MAN in public",
			func(p *Params) *uint64 { return &p.MinSelfStake },
		},
		{
			"slash_double_ppm", "millionths", 50_000, 50_000, 1, 1_000_000,
			"what signing two blocks of one height costs, of active and leaving stake",
			func(p *Params) *uint64 { return &p.SlashDoublePPM },
		},
		{
			"slash_downtime_ppm", "millionths", 100, 100, 1, 1_000_000,
			"what being offline costs: a hundredth of a percent",
			func(p *Params) *uint64 { return &p.SlashDowntimePPM },
		},
		{
			"reporter_ppm", "millionths", 50_000, 50_000, 1, 100_000,
			"the part of what double signing costs that the validator gets whose block proves it, never the culprit; the rest is burned",
			func(p *Params) *uint64 { return &p.ReporterPPM },
		},
		{
			"liveness_epochs", "epochs", 20, 24, 1, 1000,
			"the window in which missed blocks are counted: a day in public",
			func(p *Params) *uint64 { return &p.LivenessEpochs },
		},
		{
			"max_missed_blocks", "blocks", 1800, 43_200, 1, 100_000_000,
			"a validator that missed more of the window is jailed: half in public, nine tenths on a local network, whose machines are busy",
			func(p *Params) *uint64 { return &p.MaxMissedBlocks },
		},
		{
			"jail_blocks", "blocks", 100, 600, 1, 1_000_000,
			"how long a jailed validator stays out at least",
			func(p *Params) *uint64 { return &p.JailBlocks },
		},
	}
}

// Defaults returns the default parameters of a network.
func Defaults(network Network) Params {
	var p Params
	for _, row := range Table() {
		*row.field(&p) = row.Public
		if network == Local {
			*row.field(&p) = row.Local
		}
	}
	return p
}

// Validate checks every parameter against its bounds and the parameters against
// each other; mman.ErrGenesis.
func (p Params) Validate() error {
	for _, row := range Table() {
		if v := row.Of(p); v < row.Min || v > row.Max {
			return fmt.Errorf("%w: params.%s is %d: %d to %d %s are allowed", mman.ErrGenesis, row.Name, v, row.Min, row.Max, row.Unit)
		}
	}
	switch {
	case p.MaxGasPerTx > p.MaxGasPerBlock:
		return fmt.Errorf("%w: params.max_gas_per_tx %d is above max_gas_per_block %d", mman.ErrGenesis, p.MaxGasPerTx, p.MaxGasPerBlock)
	case p.BaseFeeFloorMicro > p.BaseFeeMicro:
		return fmt.Errorf("%w: params.base_fee_floor_micro %d is above base_fee_micro %d", mman.ErrGenesis, p.BaseFeeFloorMicro, p.BaseFeeMicro)
	case p.UnbondingBlocks < p.EvidenceMaxBlocks+2*p.EpochBlocks:
		return fmt.Errorf("%w: params.unbonding_blocks %d: at least evidence_max_age_blocks and two epochs, %d, or stake escapes evidence",
			mman.ErrGenesis, p.UnbondingBlocks, p.EvidenceMaxBlocks+2*p.EpochBlocks)
	case p.UnbondingSeconds <= p.EvidenceMaxSeconds:
		return fmt.Errorf("%w: params.unbonding_seconds %d: it must be above evidence_max_age_seconds %d", mman.ErrGenesis, p.UnbondingSeconds, p.EvidenceMaxSeconds)
	case p.StorageWindowBlocks+4 > p.StorageEpochBlocks:
		return fmt.Errorf("%w: params.storage_window_blocks %d: at most storage_epoch_blocks less 4, %d, so that an epoch is judged before the next begins",
			mman.ErrGenesis, p.StorageWindowBlocks, p.StorageEpochBlocks-4)
	case p.EvidenceMaxBytes > p.BlockMaxBytes:
		return fmt.Errorf("%w: params.evidence_max_bytes %d is above block_max_bytes %d", mman.ErrGenesis, p.EvidenceMaxBytes, p.BlockMaxBytes)
	}
	return nil
}

// MaxBaseFeeMicro is the highest base fee, in 10⁻⁶ uman per gas.
const MaxBaseFeeMicro = 1_000_000_000_000

// FeeAt returns what a transaction with the gas limit must pay when the base
// fee is so high: its gas at the base fee in 10⁻⁶ uman per gas, rounded up.
// ErrOverflow when no money can pay it.
func FeeAt(baseFeeMicro, gas uint64) (mman.Amount, error) {
	const micro = 1_000_000
	return mman.Amount(gas).MulDivCeil(baseFeeMicro, micro)
}

// NextBaseFee returns the base fee of the block after one in which admitted
// transactions had used gas: it rises or falls by up to an eighth, at least by
// 1, with the distance from half of the block's gas, and stays between the
// floor and MaxBaseFeeMicro.
func (p Params) NextBaseFee(base, used uint64) (uint64, error) {
	target := max(p.MaxGasPerBlock/2, 1)
	used = min(used, 2*target)
	distance := max(used, target) - min(used, target)
	if distance == 0 {
		return base, nil
	}
	step, err := mman.Amount(base).MulDivFloor(distance, 8*target)
	if err != nil {
		return 0, err
	}
	change := max(uint64(step), 1)
	if used > target {
		return min(base+change, MaxBaseFeeMicro), nil
	}
	return max(base-min(change, base), p.BaseFeeFloorMicro), nil
}
