package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	abcitypes "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/consensus"
	"github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	cmtcons "github.com/cometbft/cometbft/proto/tendermint/consensus"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/proxy"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/localnet"
	mmannode "github.com/limboid/massive-man/node"
	mmancons "github.com/limboid/massive-man/node/consensus"
	"github.com/limboid/massive-man/node/store"
)

// A villain is a validator that breaks the rules on purpose: a process of this
// test's own binary, with CometBFT's node and our application, whose signer is
// replaced. It lives in the home of a validator of the network.
const (
	envVillain = "MMAN_E2E_VILLAIN" // the home
	envDeed    = "MMAN_E2E_DEED"

	deedPropose    = "propose"
	deedEquivocate = "equivocate"
	deedJournal    = "journal" // none: an honest one that keeps a journal
)

// misdeeds are the blocks that a villain proposes, in turns.
func misdeeds() []string {
	return []string{"bad bytes", "bad signature", "reordered", "repeated", "bad beacon", "oversized"}
}

// refusal is what an honest validator writes about such a block: our own words and
// the reason, or CometBFT's where it does not even ask us.
func refusal(kind string) (said, reason string) {
	said = "rejecting a proposal"
	switch kind {
	case "bad bytes":
		return said, mman.ErrTxDecode.Text
	case "bad signature":
		return said, mman.ErrBadSignature.Text
	case "reordered", "repeated":
		return said, mman.ErrSequence.Text
	case "bad beacon":
		return said, mman.ErrBeacon.Text
	default: // oversized
		return "Rejecting oversized proposal", ""
	}
}

// caught counts by kind the misdeeds that came to one of the honest validators and
// that it refused for what was wrong with them.
func caught(t *testing.T, honest []*localnet.Node, all [][3]string) map[string]int {
	t.Helper()
	var said []string
	for _, one := range honest {
		b, err := os.ReadFile(filepath.Join(one.Home, "node.log"))
		require.NoError(t, err)
		for line := range strings.Lines(string(b)) {
			if strings.Contains(strings.ToLower(line), "rejecting ") {
				said = append(said, line)
			}
		}
	}
	kinds := map[string]int{}
	for _, one := range all {
		words, reason := refusal(one[0])
		if slices.ContainsFunc(said, func(line string) bool {
			return strings.Contains(line, words) && strings.Contains(line, reason) && slices.Contains(strings.Fields(line), "height="+one[1])
		}) {
			kinds[one[0]]++
		}
	}
	return kinds
}

// villain is such a process.
type villain struct {
	home  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

// corrupt starts a villain in the home of a validator that was stopped.
func corrupt(t *testing.T, one *localnet.Node, deed string) *villain {
	t.Helper()
	own, err := os.Executable()
	require.NoError(t, err)
	out, err := os.OpenFile(filepath.Join(one.Home, "node.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(t, err)
	defer out.Close() //nolint:errcheck // the child has its own
	v := &villain{home: one.Home, cmd: exec.Command(own)}
	v.cmd.Env = append(os.Environ(), envVillain+"="+one.Home, envDeed+"="+deed)
	v.cmd.Stdout, v.cmd.Stderr = out, out
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	v.stdin, err = v.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, v.cmd.Start())
	t.Cleanup(func() {
		_ = v.cmd.Process.Kill() // it may have ended
		_ = v.cmd.Wait()         // it was killed
	})
	return v
}

// done returns what the villain did so far: its kind, height and block.
func (v *villain) done(t *testing.T) (out [][3]string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(v.home, "node.log"))
	require.NoError(t, err)
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "misdeed|"); ok {
			part := strings.SplitN(rest, "|", 3)
			require.Len(t, part, 3)
			out = append(out, [3]string(part))
		}
	}
	return out
}

// villainMain is the villain's process.
func villainMain(home, deed string) error {
	doc, err := mmannode.ReadGenesis(home)
	if err != nil {
		return err
	}
	cfg, err := mmannode.LoadConfig(home)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	stores, err := store.Open(store.DefaultConfig(filepath.Join(home, "store"), logger))
	if err != nil {
		return err
	}
	beacon, err := mmancons.BeaconKey(home)
	if err != nil {
		return err
	}
	app, err := abci.New(abci.Config{DB: stores.State(), Log: logger, Beacon: beacon})
	if err != nil {
		return err
	}
	genesis, err := mmancons.CometGenesis(doc)
	if err != nil {
		return err
	}
	c := villainConfig(home, cfg)
	signer := privval.LoadFilePV(c.PrivValidatorKeyFile(), c.PrivValidatorStateFile())
	key, err := p2p.LoadNodeKey(c.NodeKeyFile())
	if err != nil {
		return err
	}
	chainState := sm.NewStore(mmancons.NewDB(stores.Data().Namespace(store.NamespaceCometState)), sm.StoreOptions{})
	f := &forger{FilePV: signer, app: app, chain: doc.ChainID, deed: deed, state: chainState}
	databases := mmancons.DBProvider(stores.Data())
	if deed == deedJournal {
		j, err := openJournal(home)
		if err != nil {
			return err
		}
		databases = j.provider(databases)
	}
	n, err := node.NewNodeWithContext(context.Background(), c, f, key, proxy.NewConnSyncLocalClientCreator(app),
		func() (*types.GenesisDoc, error) { return genesis, nil },
		databases, node.DefaultMetricsProvider(c.Instrumentation), log.NewNopLogger())
	if err != nil {
		return err
	}
	f.node.Store(n)
	if err := n.Start(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin) // its end is the parent's
	return errors.Join(err, n.Stop())
}

func villainConfig(home string, cfg mmannode.Config) *config.Config {
	c := config.DefaultConfig()
	c.SetRoot(filepath.Join(home, "consensus"))
	c.PrivValidatorKey, c.PrivValidatorState, c.NodeKey = "priv_validator_key.json", "priv_validator_state.json", "node_key.json"
	c.RPC.ListenAddress, c.TxIndex.Indexer = "", "kv"
	c.P2P.ListenAddress, c.P2P.PersistentPeers, c.P2P.AddrBook = "tcp://"+cfg.P2P, strings.Join(cfg.Peers, ","), "addrbook.json"
	c.P2P.AddrBookStrict, c.P2P.AllowDuplicateIP = false, true
	pace := mmancons.LocalTimeouts()
	c.Consensus.WalPath = "wal/wal"
	c.Consensus.TimeoutPropose, c.Consensus.TimeoutPrevote, c.Consensus.TimeoutPrecommit = pace.Propose, pace.Vote, pace.Vote
	c.Consensus.TimeoutCommit, c.Consensus.CreateEmptyBlocksInterval, c.Consensus.PeerGossipSleepDuration = pace.Commit, pace.Quiet, pace.Gossip
	return c
}

// forger signs what no honest validator signs.
type forger struct {
	*privval.FilePV

	app   *abci.Application
	chain string
	deed  string
	state sm.Store
	node  atomic.Pointer[node.Node]
	turn  int
	votes int
}

// mostVotes is how often an equivocator does it.
const mostVotes = 5

// SignVote implements types.PrivValidator. An equivocator sends a vote for another
// block beside each of its first votes for one.
func (f *forger) SignVote(chain string, vote *cmtproto.Vote) error {
	if err := f.FilePV.SignVote(chain, vote); err != nil {
		return err
	}
	n := f.node.Load()
	if f.deed != deedEquivocate || n == nil || len(vote.BlockID.Hash) == 0 || vote.Type != cmtproto.PrevoteType || f.votes >= mostVotes {
		return nil
	}
	f.votes++
	other := *vote
	other.BlockID = cmtproto.BlockID{Hash: random(32), PartSetHeader: cmtproto.PartSetHeader{Total: 1, Hash: random(32)}}
	signature, err := f.Key.PrivKey.Sign(types.VoteSignBytes(chain, &other))
	if err != nil {
		return err
	}
	other.Signature = signature
	f.tell("two votes", vote.Height, other.BlockID.Hash)
	go f.send(n, consensus.VoteChannel, &cmtcons.Vote{Vote: &other})
	return nil
}

// SignProposal implements types.PrivValidator. In place of the proposal that it is
// shown, a malicious proposer sends another one; the error keeps its own node from
// proposing.
func (f *forger) SignProposal(chain string, proposal *cmtproto.Proposal) error {
	n := f.node.Load()
	if f.deed != deedPropose || n == nil {
		return f.FilePV.SignProposal(chain, proposal)
	}
	kind := misdeeds()[f.turn%len(misdeeds())]
	block, ok, err := f.forge(n, kind, proposal.Height)
	if err != nil {
		return err
	}
	if !ok {
		return f.FilePV.SignProposal(chain, proposal)
	}
	parts, err := block.MakePartSet(types.BlockPartSizeBytes)
	if err != nil {
		return err
	}
	forged := *proposal
	id := types.BlockID{Hash: block.Hash(), PartSetHeader: parts.Header()}
	forged.BlockID, forged.PolRound = id.ToProto(), -1
	if err := f.FilePV.SignProposal(chain, &forged); err != nil {
		return err
	}
	f.turn++
	f.tell(kind, proposal.Height, block.Hash())
	go func() {
		f.send(n, consensus.DataChannel, &cmtcons.Proposal{Proposal: forged})
		for i := range int(parts.Total()) {
			part, err := parts.GetPart(i).ToProto()
			if err == nil {
				f.send(n, consensus.DataChannel, &cmtcons.BlockPart{Height: forged.Height, Round: forged.Round, Part: *part})
			}
		}
	}()
	return errors.New("another one was sent")
}

func (f *forger) tell(kind string, height int64, block []byte) {
	fmt.Printf("misdeed|%s|%d|%x\n", kind, height, block)
}

// send tells all peers and waits until each has it.
func (f *forger) send(n *node.Node, channel byte, message interface {
	Reset()
	String() string
	ProtoMessage()
},
) {
	for _, peer := range n.Switch().Peers().Copy() {
		peer.Send(p2p.Envelope{ChannelID: channel, Message: message})
	}
}

// forge makes a block that is right but for one thing. ok is false when it lacks
// the transactions for that.
func (f *forger) forge(n *node.Node, kind string, height int64) (*types.Block, bool, error) {
	state, err := f.state.Load()
	if err != nil || state.LastBlockHeight != height-1 || height < 3 {
		return nil, false, err
	}
	limit := state.ConsensusParams.Block.MaxBytes - 64<<10
	key, err := f.GetPubKey()
	if err != nil {
		return nil, false, err
	}
	waiting := n.Mempool().ReapMaxBytesMaxGas(limit/2, -1)
	honest, err := f.app.PrepareProposal(context.Background(), &abcitypes.RequestPrepareProposal{
		Height: height, MaxTxBytes: limit, Txs: waiting.ToSliceOfBytes(), ProposerAddress: key.Address(),
	})
	if err != nil {
		return nil, false, err
	}
	wrong, ok := spoil(kind, types.ToTxs(honest.Txs))
	if !ok {
		return nil, false, nil
	}
	block, err := state.MakeBlock(height, wrong, n.BlockStore().LoadSeenCommit(height-1), nil, key.Address())
	return block, true, err
}

// spoil changes the transactions of a block in one way.
func spoil(kind string, txs types.Txs) (types.Txs, bool) {
	var own types.Txs
	for _, one := range txs {
		if !tx.IsBeacon(one) {
			own = append(own, one)
		}
	}
	switch kind {
	case "bad bytes":
		return append(txs, random(100)), true
	case "bad signature":
		if len(own) == 0 {
			return nil, false
		}
		changed := bytes.Clone(own[0])
		changed[len(changed)-1] ^= 1
		return types.Txs{changed}, true
	case "reordered": // of one sender
		if len(own) < 2 {
			return nil, false
		}
		own[0], own[1] = own[1], own[0]
		return own, true
	case "repeated":
		if len(own) == 0 {
			return nil, false
		}
		return append(own, own[0]), true
	case "bad beacon":
		return append(types.Txs{tx.EncodeBeacon(make([]byte, tx.BeaconSize-len("mman/beacon-tx/1\x00")))}, own...), true
	default: // oversized
		for range 20 {
			txs = append(txs, random(60<<10))
		}
		return txs, true
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return b
}
