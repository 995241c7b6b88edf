package state

// Prefix names a family of keys: a store, a slash and one letter. The families
// of all modules stand in this file and nowhere else, so that two can never
// meet; a letter is never reused for another meaning.
type Prefix string

// Families of the bank.
const (
	// BankAccounts holds an account's record by its address.
	BankAccounts Prefix = "bank/a"
	// BankNumbers holds the address by account number (u64be).
	BankNumbers Prefix = "bank/n"
	// BankTotals holds the counters by name: next account number, genesis,
	// minted and burned sums, and each pool's balance.
	BankTotals Prefix = "bank/t"
	// BankFee holds the base fee as of its last change.
	BankFee Prefix = "bank/f"
)

// Families of the market.
const (
	// MarketOffers holds an offer's record by its CID.
	MarketOffers Prefix = "market/o"
	// MarketOffersByFacet indexes offers: kind, facet, index price (u64be), offer CID.
	MarketOffersByFacet Prefix = "market/f"
	// MarketOffersByResource indexes offers: resource CID, index price (u64be), offer CID.
	MarketOffersByResource Prefix = "market/r"
	// MarketOffersByProvider indexes offers: provider address, offer CID.
	MarketOffersByProvider Prefix = "market/p"
	// MarketOffersByExpiry queues offers: expiry height (u64be), offer CID.
	MarketOffersByExpiry Prefix = "market/e"
	// MarketArrivals lists offers as they came: kind, facet, number of the arrival
	// (u64be), 8 bytes of the resource's digest, offer CID.
	MarketArrivals Prefix = "market/i"
	// MarketRequests holds a request's record by its id.
	MarketRequests Prefix = "market/q"
	// MarketRequestQueue queues the open requests in the order of matching: the
	// arrival from which on to try again (u64be), request id.
	MarketRequestQueue Prefix = "market/w"
	// MarketRequestsByWake queues requests that time alone may fill: height (u64be),
	// request id.
	MarketRequestsByWake Prefix = "market/g"
	// MarketRequestsByDeadline queues requests: deadline height (u64be), request id.
	MarketRequestsByDeadline Prefix = "market/d"
	// MarketRequestsByAccount indexes requests: consumer address, 0 while it is
	// queued or 1, request id.
	MarketRequestsByAccount Prefix = "market/c"
	// MarketLeases holds a lease's record by its id.
	MarketLeases Prefix = "market/l"
	// MarketLeasesByAccount indexes leases: address of provider or consumer, 0
	// until it is closed or 1, lease id.
	MarketLeasesByAccount Prefix = "market/a"
	// MarketLeasesByExpiry queues leases: height of the next due step (u64be), lease id.
	MarketLeasesByExpiry Prefix = "market/x"
	// MarketDecisions holds the record of why a request was matched so, by request id.
	MarketDecisions Prefix = "market/z"
	// MarketNodes holds a node's binding by its peer id.
	MarketNodes Prefix = "market/n"
	// MarketNodesByAccount indexes node bindings: account address, peer id.
	MarketNodesByAccount Prefix = "market/b"
	// MarketUsage holds the standing offer and the open leases of a line by the
	// hash of provider, node, kind and resource.
	MarketUsage Prefix = "market/u"
	// MarketGrants holds what a holder granted: the line's hash, grantee address.
	MarketGrants Prefix = "market/s"
	// MarketGrantsByGrantee indexes grants: grantee address, the line's hash.
	MarketGrantsByGrantee Prefix = "market/j"
	// MarketGrantsByExpiry queues grants: height (u64be), the line's hash, grantee
	// address.
	MarketGrantsByExpiry Prefix = "market/h"
	// MarketParents holds which offer's royalty counts: resource CID, owner address.
	MarketParents Prefix = "market/v"
	// MarketUsageByConsumer counts leases by days: the line's hash, consumer
	// address.
	MarketUsageByConsumer Prefix = "market/k"
	// MarketUsageByDay queues the counts: day on which they are dropped (u64be),
	// the line's hash, consumer address.
	MarketUsageByDay Prefix = "market/y"
	// MarketTotals holds the market's counters by name.
	MarketTotals Prefix = "market/t"
)

// Families of requests that are put out to sealed bids.
const (
	// RFPRecords holds the record by the request's id.
	RFPRecords Prefix = "rfp/r"
	// RFPByDue queues them: height of the next due step (u64be), request id.
	RFPByDue Prefix = "rfp/d"
	// RFPByState indexes them: 0 until it is closed or 1, request id.
	RFPByState Prefix = "rfp/s"
	// RFPByAccount indexes them: address of consumer or bidder, 0 until it is
	// closed or 1, request id.
	RFPByAccount Prefix = "rfp/a"
)

// Families of storage.
const (
	// StorageOffers holds what a provider lends: address, tier.
	StorageOffers Prefix = "storage/o"
	// StorageOffersByPrice lists what takes replicas: tier, 0, price (u64be), address.
	StorageOffersByPrice Prefix = "storage/p"
	// StorageLeases holds a lease's record by its id.
	StorageLeases Prefix = "storage/l"
	// StorageLeasesByAccount indexes leases: consumer address, lease id.
	StorageLeasesByAccount Prefix = "storage/a"
	// StorageLeasesByContent indexes leases of public files: CID, lease id.
	StorageLeasesByContent Prefix = "storage/c"
	// StorageReplicasByProvider indexes replicas: provider address, lease id, number.
	StorageReplicasByProvider Prefix = "storage/r"
	// StorageDue queues steps: height (u64be), lease id and number of the replica or
	// 255; or consumer address, 254 and provider address for a retrieval's money.
	StorageDue Prefix = "storage/d"
	// StorageDrawn holds the latest challenge under one key.
	StorageDrawn Prefix = "storage/e"
	// StorageRetrievals holds money for retrievals: consumer address, provider address.
	StorageRetrievals Prefix = "storage/f"
	// StorageTotals holds the counters by name.
	StorageTotals Prefix = "storage/t"
)

// Families of staking.
const (
	// StakeValidators holds a validator's record by its operator address.
	StakeValidators Prefix = "stake/v"
	// StakeValidatorsByKey holds the operator address by consensus address.
	StakeValidatorsByKey Prefix = "stake/k"
	// StakeDelegations holds shares: operator address, delegator address.
	StakeDelegations Prefix = "stake/d"
	// StakeDelegationsByAccount indexes delegations: delegator address, operator address.
	StakeDelegationsByAccount Prefix = "stake/a"
	// StakeUnbonding queues unbondings: height (u64be), delegator address,
	// operator address, address of the operator who gets the stake, or zeros.
	StakeUnbonding Prefix = "stake/u"
	// StakeUnbondingByAccount indexes unbondings: delegator address, height
	// (u64be), the two operator addresses.
	StakeUnbondingByAccount Prefix = "stake/b"
	// StakeMissed holds the missed blocks of the last epochs by operator address.
	StakeMissed Prefix = "stake/m"
	// StakeTotals holds the counters of staking by name.
	StakeTotals Prefix = "stake/t"
)

// Families of the later modules.
const (
	// ParamsValues holds the parameters of a module by its name.
	ParamsValues Prefix = "params/v"
	// RewardEpochs holds an epoch's record by its number (u64be).
	RewardEpochs Prefix = "reward/e"
	// RewardPoints holds what an account earned in the running epoch by its address.
	RewardPoints Prefix = "reward/p"
	// GovProposals holds a proposal's record by its number (u64be).
	GovProposals Prefix = "gov/p"
	// GovVotes holds votes: proposal number (u64be), voter address.
	GovVotes Prefix = "gov/v"
	// GovQueue queues proposals: height of the next due step (u64be), proposal number (u64be).
	GovQueue Prefix = "gov/q"
	// LeagueLeagues holds a league's record by its id.
	LeagueLeagues Prefix = "league/l"
	// LeagueMatches holds a match's record: league id, match number (u64be).
	LeagueMatches Prefix = "league/m"
	// BeaconValues holds the beacons of the last heights that have one by height
	// (u64be).
	BeaconValues Prefix = "beacon/v"
	// BeaconLatest holds the latest beacon and its height under one key.
	BeaconLatest Prefix = "beacon/l"
	// BeaconDue queues the heights (u64be) whose block must carry one.
	BeaconDue Prefix = "beacon/d"
)
