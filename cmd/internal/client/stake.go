package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/sdk/chain"
)

const (
	// perPercent turns percents into millionths.
	perPercent = 10_000
	// stakeKeyBytes is the length of a consensus key in CometBFT's file: seed
	// and public key.
	stakeKeyBytes = 64
)

func (a *app) stake() *cobra.Command {
	return console.Group(&cobra.Command{
		Use: "stake", Short: "Back validators with coins, or run one",
		Long: `Back validators with coins, or run one.

Stake earns a part of the fees, which is added to it by itself. Stake that
leaves waits for the unbonding time before it is free; until then it can be
slashed for what its validator did.`,
		Example: "  mman stake list\n  mman stake delegate manvaloper1… 5MAN\n  mman stake show",
	}, a.stakeList(), a.stakeShow(), a.stakeDelegate(), a.stakeUndelegate(), a.stakeRedelegate(), a.stakeCreate(), a.stakeEdit(), a.stakeUnjail())
}

// stakeAnswer is a message of staking that is in a block.
type stakeAnswer struct {
	Tx     mman.Hash    `json:"tx"`
	Height uint64       `json:"height"`
	From   mman.Address `json:"from"`
	Fee    mman.Amount  `json:"fee_uman"`
}

// submitStake brings the message that make returns for the account into a
// block.
func (a *app) submitStake(ctx context.Context, what string, message func(own mman.Address, chainID string) tx.Msg) error {
	c, err := a.signer(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // the result is in already
	submitter, err := c.Submitter()
	if err != nil {
		return err
	}
	done, err := submitter.Submit(ctx, message(submitter.Address(), c.ChainID()))
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return a.answer(stakeAnswer{done.Hash, done.Height, submitter.Address(), done.Fee},
		fmt.Sprintf("%s: done at height %d, fee %s, transaction %s", what, done.Height, done.Fee, done.Hash))
}

// operator reads a validator's operator: manvaloper1…, man1…, or the name of an
// own key.
func (a *app) operator(s string) (mman.Address, error) {
	if strings.HasPrefix(s, mman.ValidatorHRP+"1") {
		operator, err := mman.ParseValidatorAddress(s)
		if err != nil {
			return operator, console.Wrong("%w", err)
		}
		return operator, nil
	}
	return a.party(s)
}

func parsePositive(s string) (mman.Amount, error) {
	amount, err := mman.ParseAmount(s)
	if err == nil && amount == 0 {
		err = fmt.Errorf("%w: amount %s is nothing", mman.ErrInvalid, s)
	}
	if err != nil {
		return 0, console.Wrong("%w", err)
	}
	return amount, nil
}

func (a *app) stakeDelegate() *cobra.Command {
	return &cobra.Command{
		Use: "delegate VALIDATOR AMOUNT", Short: "Back a validator with coins",
		Example: "  mman stake delegate manvaloper1… 5MAN",
		Args:    console.Args(2, 2, "VALIDATOR and AMOUNT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			operator, amount, err := a.operatorAndAmount(args)
			if err != nil {
				return err
			}
			return a.submitStake(cmd.Context(), "delegate "+args[1], func(own mman.Address, _ string) tx.Msg {
				return tx.MsgDelegate{Delegator: own, Validator: operator, Amount: amount}
			})
		},
	}
}

func (a *app) operatorAndAmount(args []string) (mman.Address, mman.Amount, error) {
	operator, err := a.operator(args[0])
	if err != nil {
		return operator, 0, err
	}
	amount, err := parsePositive(args[len(args)-1])
	return operator, amount, err
}

func (a *app) stakeUndelegate() *cobra.Command {
	return &cobra.Command{
		Use: "undelegate VALIDATOR AMOUNT", Short: "Ask for stake back, which takes the unbonding time",
		Example: "  mman stake undelegate manvaloper1… 5MAN\n  mman stake show",
		Args:    console.Args(2, 2, "VALIDATOR and AMOUNT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			operator, amount, err := a.operatorAndAmount(args)
			if err != nil {
				return err
			}
			return a.submitStake(cmd.Context(), "undelegate "+args[1], func(own mman.Address, _ string) tx.Msg {
				return tx.MsgUndelegate{Delegator: own, Validator: operator, Amount: amount}
			})
		},
	}
}

func (a *app) stakeRedelegate() *cobra.Command {
	return &cobra.Command{
		Use: "redelegate FROM TO AMOUNT", Short: "Move stake to another validator",
		Long:    "Move stake to another validator. It leaves the first one as undelegated stake\ndoes and reaches the second after the unbonding time.",
		Example: "  mman stake redelegate manvaloper1… other-key 5MAN",
		Args:    console.Args(3, 3, "FROM, TO and AMOUNT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, amount, err := a.operatorAndAmount(args)
			if err != nil {
				return err
			}
			to, err := a.operator(args[1])
			if err != nil {
				return err
			}
			return a.submitStake(cmd.Context(), "redelegate "+args[2], func(own mman.Address, _ string) tx.Msg {
				return tx.MsgRedelegate{Delegator: own, From: from, To: to, Amount: amount}
			})
		},
	}
}

// commission reads a percentage with at most four digits behind the point as
// millionths.
func commission(s string) (uint64, error) {
	whole, part, _ := strings.Cut(strings.TrimSuffix(s, "%"), ".")
	const digits = 4
	n, err := strconv.ParseUint(whole+(part + "0000")[:max(digits, len(part))], 10, 32)
	if err != nil || len(part) > digits || n > 100*perPercent {
		return 0, console.Wrong("commission %.20q: write a percentage from 0 to 100 with at most four digits behind the point, for example 5 or 2.5", s)
	}
	return n, nil
}

func (a *app) stakeCreate() *cobra.Command {
	file, part := "", "5"
	cmd := &cobra.Command{
		Use: "create NAME AMOUNT", Short: "Make the account a validator with a stake of its own",
		Long: `Make the account a validator with a stake of its own.

The node that signs blocks must run and be in sync. Its consensus key is in
consensus/priv_validator_key.json of its home; it signs the message, which
proves that the operator holds it. The validator is elected at the end of an
epoch when it is among those with the most stake.`,
		Example: "  mman stake create \"My node\" 100MAN --key-file ~/.mman-node/consensus/priv_validator_key.json --commission 5",
		Args:    console.Args(2, 2, "NAME and AMOUNT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			amount, err := parsePositive(args[1])
			if err != nil {
				return err
			}
			ppm, err := commission(part)
			if err != nil {
				return err
			}
			if file == "" {
				return console.Wrong("--key-file is missing: name the node's consensus/priv_validator_key.json")
			}
			key, err := readConsensusKey(file)
			if err != nil {
				return err
			}
			return a.submitStake(cmd.Context(), "create validator "+args[0], func(own mman.Address, chainID string) tx.Msg {
				return tx.MsgCreateValidator{Operator: own, Name: args[0], CommissionPPM: ppm, Stake: amount}.SignKey(key, chainID)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "key-file", "", "the node's consensus/priv_validator_key.json")
	f.StringVar(&part, "commission", part, "the operator's part of the rewards in percent")
	return cmd
}

// readConsensusKey reads CometBFT's file of a validator's key.
func readConsensusKey(path string) (sig.PrivateKey, error) {
	f, err := os.Open(path) //nolint:gosec // the user names it
	if err != nil {
		return sig.PrivateKey{}, fmt.Errorf("%w: %w", mman.ErrKeyfile, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	_ = f.Close() // it was only read
	if err != nil {
		return sig.PrivateKey{}, fmt.Errorf("%w: %s: %w", mman.ErrKeyfile, path, err)
	}
	var key struct {
		Private struct {
			Type  string `json:"type"`
			Value []byte `json:"value"`
		} `json:"priv_key"`
	}
	if err := json.Unmarshal(b, &key); err != nil || key.Private.Type != "tendermint/PrivKeyEd25519" || len(key.Private.Value) != stakeKeyBytes {
		return sig.PrivateKey{}, fmt.Errorf("%w: %s is no priv_validator_key.json with an ed25519 key", mman.ErrKeyfile, path)
	}
	return sig.FromSeed(sig.Ed25519, key.Private.Value[:sig.SecretSize])
}

func (a *app) stakeEdit() *cobra.Command {
	name, part := "", ""
	cmd := &cobra.Command{
		Use: "edit", Short: "Change the own validator's name or commission",
		Long:    "Change the own validator's name or commission. A commission may rise by five\npercent at most, once in an epoch.",
		Example: "  mman stake edit --commission 6.5",
		Args:    console.Args(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			now, err := a.ownValidator(cmd.Context())
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("name") {
				now.Name = name
			}
			if cmd.Flags().Changed("commission") {
				if now.CommissionPPM, err = commission(part); err != nil {
					return err
				}
			}
			return a.submitStake(cmd.Context(), "edit validator "+now.Name, func(own mman.Address, _ string) tx.Msg {
				return tx.MsgEditValidator{Operator: own, Name: now.Name, CommissionPPM: now.CommissionPPM}
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "the new name (default as it is)")
	f.StringVar(&part, "commission", "", "the new commission in percent (default as it is)")
	return cmd
}

func (a *app) ownValidator(ctx context.Context) (chain.Validator, error) {
	own, err := a.whose(nil)
	if err != nil {
		return chain.Validator{}, err
	}
	c, err := a.reader(ctx)
	if err != nil {
		return chain.Validator{}, err
	}
	defer func() { _ = c.Close() }() // nothing was written
	return c.Chain().Validator(ctx, own)
}

func (a *app) stakeUnjail() *cobra.Command {
	return &cobra.Command{
		Use: "unjail", Short: "Let the own validator come back after it was offline",
		Example: "  mman stake unjail",
		Args:    console.Args(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.submitStake(cmd.Context(), "unjail", func(own mman.Address, _ string) tx.Msg { return tx.MsgUnjail{Operator: own} })
		},
	}
}

func (a *app) stakeList() *cobra.Command {
	limit := maxListed
	cmd := &cobra.Command{
		Use: "list", Short: "List the validators",
		Example: "  mman stake list -o json",
		Args:    console.Args(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkLimit(limit); err != nil {
				return err
			}
			c, err := a.reader(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // nothing was written
			all, err := c.Chain().Validators(cmd.Context(), limit)
			if err != nil {
				return err
			}
			rows := make([][]string, len(all))
			for i, v := range all {
				rows[i] = []string{v.Validator, v.Name, v.Active.Tokens.String(), strconv.FormatUint(v.Power, 10), percent(v.CommissionPPM), standing(v)}
			}
			answer := struct {
				Validators []chain.Validator `json:"validators"`
			}{append([]chain.Validator{}, all...)}
			return a.answer(answer, table([]string{"VALIDATOR", "NAME", "STAKE", "POWER", "COMMISSION", "STATE"}, rows)...)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", limit, "how many to show")
	return cmd
}

// percent writes millionths.
func percent(ppm uint64) string {
	s := fmt.Sprintf("%d.%04d", ppm/perPercent, ppm%perPercent)
	return strings.TrimRight(strings.TrimRight(s, "0"), ".") + "%"
}

func standing(v chain.Validator) string {
	switch {
	case v.Tombstoned:
		return "out for ever"
	case v.Jailed:
		return fmt.Sprintf("jailed until %d", v.JailedUntil)
	case v.Power == 0:
		return "waits"
	default:
		return "signs"
	}
}

func (a *app) stakeShow() *cobra.Command {
	return &cobra.Command{
		Use: "show [ADDR]", Short: "Show an account's stake, and the validator that it operates",
		Example: "  mman stake show\n  mman stake show manvaloper1…",
		Args:    console.Args(0, 1, "ADDR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var address mman.Address
			var err error
			if len(args) > 0 {
				address, err = a.operator(args[0])
			} else {
				address, err = a.whose(nil)
			}
			if err != nil {
				return err
			}
			return a.showStake(cmd.Context(), address)
		},
	}
}

// heldStake is what an account has at stake.
type heldStake struct {
	Account     mman.Address       `json:"account"`
	Validator   *chain.Validator   `json:"validator,omitempty"`
	Delegations []chain.Delegation `json:"delegations"`
	Unbondings  []chain.Unbonding  `json:"unbondings"`
}

func (a *app) showStake(ctx context.Context, address mman.Address) error {
	c, err := a.reader(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // nothing was written
	answer := heldStake{Account: address, Delegations: []chain.Delegation{}, Unbondings: []chain.Unbonding{}}
	v, err := c.Chain().Validator(ctx, address)
	switch {
	case err == nil:
		answer.Validator = &v
	case !chain.Gone(err):
		return err
	}
	held, err := c.Chain().Delegations(ctx, address, maxListed)
	if err != nil {
		return err
	}
	leaving, err := c.Chain().Unbondings(ctx, address, maxListed)
	if err != nil {
		return err
	}
	answer.Delegations, answer.Unbondings = append(answer.Delegations, held...), append(answer.Unbondings, leaving...)
	lines := facts("account", address.String())
	if answer.Validator != nil {
		lines = append(lines, facts("validator", v.Validator, "name", v.Name, "stake", v.Active.Tokens.String(), "own stake", v.Own.String(),
			"leaving", v.Debonding.Tokens.String(), "commission", percent(v.CommissionPPM), "power", strconv.FormatUint(v.Power, 10), "state", standing(v))...)
	}
	var rows [][]string
	for _, d := range held {
		rows = append(rows, []string{d.Validator, d.Amount.String(), "active"})
	}
	for _, u := range leaving {
		where := "free"
		if u.To != "" {
			where = "with " + u.To
		}
		rows = append(rows, []string{u.Validator, u.Amount.String(), fmt.Sprintf("%s after height %d", where, u.Height)})
	}
	if len(rows) > 0 {
		lines = append(lines, table([]string{"VALIDATOR", "AMOUNT", "STATE"}, rows)...)
	}
	return a.answer(answer, lines...)
}
