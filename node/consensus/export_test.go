package consensus

import "github.com/cometbft/cometbft/config"

// CometConfig is cometConfig for tests of what it sets.
func (c Config) CometConfig(rpcAddr, p2pAddr string) *config.Config {
	return c.cometConfig(rpcAddr, p2pAddr)
}
