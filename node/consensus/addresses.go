package consensus

import (
	"fmt"

	"github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/p2p/pex"
)

// addresses is CometBFT's exchange of addresses, with an end that can be waited for:
// when CometBFT has stopped it writes its address book once more.
type addresses struct {
	*pex.Reactor

	book pex.AddrBook
}

// newAddresses makes the exchange that CometBFT itself would make for cfg.
func newAddresses(cfg *config.P2PConfig, key *p2p.NodeKey, out log.Logger) (*addresses, error) {
	book := pex.NewAddrBook(cfg.AddrBookFile(), cfg.AddrBookStrict)
	book.SetLogger(out.With("module", "p2p"))
	for _, own := range []string{cfg.ExternalAddress, cfg.ListenAddress} {
		if own == "" {
			continue
		}
		at, err := p2p.NewNetAddressString(p2p.IDAddressString(key.ID(), own))
		if err != nil {
			return nil, fmt.Errorf("the node's own address %s: %w", own, err)
		}
		book.AddOurAddress(at)
	}
	reactor := pex.NewReactor(book, &pex.ReactorConfig{PersistentPeersMaxDialPeriod: cfg.PersistentPeersMaxDialPeriod})
	reactor.SetLogger(out.With("module", "pex"))
	return &addresses{Reactor: reactor, book: book}, nil
}

// use puts the exchange in the place of CometBFT's own.
func (a *addresses) use(comet *node.Node) {
	node.CustomReactors(map[string]p2p.Reactor{"PEX": a})(comet)
	if s, ok := comet.Switch().(*p2p.Switch); ok {
		s.SetAddrBook(a.book)
	}
}

// Stop returns when the address book is on the disk.
func (a *addresses) Stop() error {
	err := a.Reactor.Stop()
	_ = a.book.Stop() // it runs still when the reactor's start failed
	if book, ok := a.book.(interface{ Wait() }); ok {
		book.Wait()
	}
	return err
}
