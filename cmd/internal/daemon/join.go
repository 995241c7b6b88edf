package daemon

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/node"
	"github.com/limboid/massive-man/node/consensus"
	"github.com/limboid/massive-man/sdk/chain"
)

// mostBootstrap is how many addresses of peers join writes down.
const mostBootstrap = 16

func (p *program) join() *cobra.Command {
	var home, trust, file string
	var peers []string
	cmd := &cobra.Command{
		Use: "join RPC...", Short: "Make a home on the network of running nodes", Args: console.Args(1, consensus.MaxServers, "RPC..."),
		Long: `join asks running nodes for the genesis of their network, its peers and one of its
latest blocks, and makes a home with them. The node then fetches the ledger as it
was at the end of an epoch, which a light client checks against that block, and
the blocks after it. Name more than one RPC, of different owners: they must agree.
Who trusts none of them names a block with --trust, and the network's genesis with
--genesis, both learned from elsewhere; nodes of another genesis are refused. --peers
names nodes of the ledger beside those that the RPCs name.`,
		Example: "  mman-node join http://127.0.0.1:26657 --home /tmp/two\n  mman-node join http://one:26657 http://two:26657 --trust 81200:5f3c… --genesis genesis.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := p.resolveHome(&home); err != nil {
				return err
			}
			if old, err := node.ReadGenesis(home); err == nil {
				return fmt.Errorf("%w: %s is the home of %s already; use an empty --home", mman.ErrExists, home, old.ChainID)
			}
			v := visited{peers: peers}
			for _, peer := range peers {
				if err := consensus.ValidPeer(peer); err != nil {
					return console.Wrong("--peers: %w", err)
				}
			}
			if file != "" {
				doc, err := genesisFrom(file)
				if err != nil {
					return err
				}
				v.genesis = &doc
			}
			if err := v.visit(cmd.Context(), args, trust); err != nil {
				return err
			}
			return p.settleIn(home, v)
		},
	}
	homeFlag(cmd, &home)
	cmd.Flags().StringVar(&trust, "trust", "", "HEIGHT:HASH of a block to believe (default: the latest of the first RPC)")
	cmd.Flags().StringVar(&file, "genesis", "", "genesis file of the network (default: that of the first RPC)")
	cmd.Flags().StringSliceVar(&peers, "peers", nil, "further nodes of the ledger, id@host:port")
	return cmd
}

// visited is what the nodes of a network say of it.
type visited struct {
	genesis          *genesis.Document // nil before the first of them said it
	peers, bootstrap []string
	sync             *consensus.Sync // nil when no epoch has ended yet
}

// visit asks all RPCs and refuses when they disagree.
func (v *visited) visit(ctx context.Context, rpcs []string, trust string) (err error) {
	s := consensus.Sync{}
	if trust != "" {
		if s, err = parseTrust(trust); err != nil {
			return err
		}
	}
	for i, rpc := range rpcs {
		c, err := chain.New(rpc)
		if err != nil {
			return err
		}
		defer c.Close()
		if i == 0 {
			if err := v.found(ctx, c, &s); err != nil {
				return err
			}
		}
		if err := v.compare(ctx, c, s); err != nil {
			return err
		}
		s.Servers = append(s.Servers, c.URL())
	}
	// Two blocks after the end of an epoch the light client can check it.
	if trust != "" || s.Height > v.genesis.Params.EpochBlocks+2 {
		v.sync = &s
	}
	return nil
}

// parseTrust reads HEIGHT:HASH.
func parseTrust(text string) (s consensus.Sync, err error) {
	height, hash, _ := strings.Cut(text, ":")
	if s.Height, err = strconv.ParseUint(height, 10, 63); err == nil {
		err = s.Hash.UnmarshalText([]byte(strings.ToLower(hash)))
	}
	if err != nil || s.Height == 0 {
		return s, console.Wrong("--trust %.100q: write HEIGHT:HASH, as in 81200:5f3c… with all 64 hex digits; a node of your own says it in mman-node status -o json", text)
	}
	return s, nil
}

// found reads the genesis and the block to trust, unless they are given.
func (v *visited) found(ctx context.Context, c *chain.Client, s *consensus.Sync) (err error) {
	if v.genesis == nil {
		doc, err := c.Genesis(ctx)
		if err != nil {
			return fmt.Errorf("genesis of %s: %w", c.URL(), err)
		}
		v.genesis = &doc
	}
	if s.Height > 0 {
		return nil
	}
	st, err := c.Status(ctx)
	if err != nil {
		return err
	}
	if st.Syncing || st.Height < 2 {
		return fmt.Errorf("%w: %s is at height %d and still fetches blocks: wait, or name another node", mman.ErrBusy, c.URL(), st.Height)
	}
	s.Height = st.Height - 1 // which every node has by now
	s.Hash, err = c.BlockHash(ctx, s.Height)
	return err
}

// compare holds one node's word against what is known, and notes where it is.
func (v *visited) compare(ctx context.Context, c *chain.Client, s consensus.Sync) error {
	info, err := c.Chain(ctx)
	if err != nil {
		return err
	}
	hash, err := v.genesis.Hash()
	if err != nil {
		return err
	}
	if info.Genesis != hash {
		return fmt.Errorf("%w: %s is on %s with genesis %s, not on %s with genesis %s", mman.ErrWrongChain, c.URL(), info.ID, info.Genesis, v.genesis.ChainID, hash)
	}
	block, err := c.BlockHash(ctx, s.Height)
	if err != nil {
		return fmt.Errorf("%s has no block %d, which is to be trusted: %w", c.URL(), s.Height, err)
	}
	if block != s.Hash {
		return fmt.Errorf("%w: block %d is %s at %s, not %s: one of the two is on a fork or lies; ask somebody you trust and name the block with --trust", mman.ErrWrongChain, s.Height, block, c.URL(), s.Hash)
	}
	st, err := c.Status(ctx)
	if err != nil {
		return err
	}
	at := meet(st.Meet, c.URL())
	if err := consensus.ValidPeer(at); err != nil {
		return fmt.Errorf("%s says where its ledger is reached: %w", c.URL(), err)
	}
	v.peers = append(v.peers, at)
	nodes, err := c.Bootstrap(ctx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		v.bootstrap = append(v.bootstrap, n.Addrs...)
	}
	slices.Sort(v.bootstrap)
	v.bootstrap = slices.Compact(v.bootstrap)
	v.bootstrap = v.bootstrap[:min(len(v.bootstrap), mostBootstrap)]
	return nil
}

// meet returns where to reach a node that says it listens at id@host:port: a
// host that means every address is replaced by that of its RPC.
func meet(said, rpc string) string {
	id, at, _ := strings.Cut(said, "@")
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		return said
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if u, err := url.Parse(rpc); err == nil {
			host = u.Hostname()
		}
	}
	return id + "@" + net.JoinHostPort(host, port)
}

// settleIn makes the home.
func (p *program) settleIn(home string, v visited) error {
	address, _, err := node.Prepare(home, "node")
	if err != nil {
		return err
	}
	cfg, err := node.LoadConfig(home)
	if err != nil {
		return err
	}
	cfg.Peers, cfg.Bootstrap, cfg.Sync = v.peers, v.bootstrap, v.sync
	if err := cfg.Save(); err != nil {
		return err
	}
	if err := node.WriteGenesis(home, *v.genesis); err != nil { // last: it makes the folder a home
		return err
	}
	answer := map[string]any{"chain_id": v.genesis.ChainID, "home": home, "account": address, "peers": v.peers}
	if v.sync != nil {
		answer["trust"] = fmt.Sprintf("%d:%s", v.sync.Height, v.sync.Hash)
	}
	if p.asJSON() {
		return console.JSON(p.streams.Out, answer)
	}
	p.printf("made a home on %s in %s; account %s\n", v.genesis.ChainID, home, address)
	if v.sync != nil {
		p.printf("it believes block %d with hash %s: compare it with what somebody says whom you trust\n", v.sync.Height, v.sync.Hash)
	} else {
		p.printf("the network is young: all its blocks will be fetched\n")
	}
	p.printf("start it with: mman-node --home %s\nto lend or to validate, the account needs some MAN: mman send %s 10MAN\n", home, address)
	return nil
}
