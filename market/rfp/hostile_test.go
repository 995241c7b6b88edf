package rfp_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/rfp"
)

// TestAttacks: each attack fails, and works when its defence is switched off.
func TestAttacks(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, defence string
		// attack reports whether the attacker got what it wants.
		attack func(g *game) bool
	}{
		{"a bidder opens another bid than it committed to, after it saw the others", "opening", func(g *game) bool {
			honest, high := g.bid("honest", 500), g.bid("attacker", 900)
			ok(g, g.bring(4, honest, high))
			g.seal()
			ok(g, g.reveal(11, "honest", honest))
			lower := g.bid("attacker", 499)
			if g.reveal(12, "attacker", lower) != nil {
				g.award(revealBy)
				return g.won("attacker")
			}
			g.award(12)
			return g.won("attacker")
		}},
		{"a bidder commits to a copy of another's digest, and opens it as the other did", "opening", func(g *game) bool {
			honest := g.bid("honest", 500)
			copied := g.bid("attacker", 1)
			copied.commitment.Digest = honest.commitment.Digest
			ok(g, g.bring(4, honest, copied))
			g.seal()
			ok(g, g.reveal(11, "honest", honest))
			return g.reveal(12, "attacker", honest) == nil
		}},
		{"a friend of the consumer commits after the bids were opened", "windows", func(g *game) bool {
			honest := g.bid("honest", 500)
			ok(g, g.bring(4, honest))
			g.seal()
			ok(g, g.reveal(11, "honest", honest))
			late := g.bid("friend", 499)
			if g.post(12, late, true) != nil {
				return false
			}
			ok(g, g.reveal(13, "friend", late))
			g.award(14)
			return g.won("friend")
		}},
		{"the consumer brings its list after the last height for it", "windows", func(g *game) bool {
			return g.bring(commitBy+1, g.bid("friend", 1)) == nil
		}},
		{"a bid is opened while others may still commit", "windows", func(g *game) bool {
			honest := g.bid("honest", 500)
			ok(g, g.bring(4, honest))
			return g.reveal(sealBy, "honest", honest) == nil
		}},
		{"the consumer changes the commitments that it brought", "twice", func(g *game) bool {
			honest := g.bid("honest", 500)
			ok(g, g.bring(3, honest))
			forged := honest
			forged.commitment.Digest[0]++
			if g.bring(4, forged) != nil {
				return false
			}
			g.seal()
			return g.reveal(11, "honest", honest) != nil // its bond burns
		}},
		{"a bidder commits to a second bid in the place of the first", "twice", func(g *game) bool {
			ok(g, g.bring(3, g.bid("attacker", 900)))
			second := g.bid("attacker", 1)
			if g.post(9, second, true) != nil {
				return false
			}
			g.seal()
			return g.reveal(11, "attacker", second) == nil
		}},
		{"the consumer leaves out the cheapest commitment, for a friend", "remedy", func(g *game) bool {
			honest, friend := g.bid("honest", 500), g.bid("friend", 900)
			ok(g, g.bring(commitBy, friend)) // in the last block
			posted := g.post(sealBy, honest, true) == nil
			g.seal()
			ok(g, g.reveal(11, "friend", friend))
			if posted {
				ok(g, g.reveal(11, "honest", honest))
			}
			g.award(12)
			return g.won("friend")
		}},
		{"strangers fill the places with commitments that nobody asked for", "ack", func(g *game) bool {
			return g.post(3, g.bid("stranger", 1), false) == nil
		}},
		{"a bidder wins and does not serve, for nothing", "bond", func(g *game) bool {
			low := g.bid("attacker", 1)
			ok(g, g.bring(3, low, g.bid("honest", 500)))
			g.seal()
			ok(g, g.reveal(11, "attacker", low))
			g.award(revealBy)
			_, move, err := g.rfp.Absent(28)
			ok(g, err)
			return !move.Burned
		}},
		{"a bidder looks at the others' bids before it decides to open its own, for nothing", "bond", func(g *game) bool {
			ok(g, g.bring(3, g.bid("attacker", 900)))
			g.seal()
			moves := g.award(revealBy)
			return !moves[0].Burned
		}},
		{"a bidder takes its offer away when it does not like its bid any more, for nothing", "bond", func(g *game) bool {
			low := g.bid("attacker", 1)
			ok(g, g.bring(3, low))
			g.seal()
			ok(g, g.reveal(11, "attacker", low))
			g.offers = nil
			moves := g.award(12)
			return !moves[0].Burned
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			require.False(t, tc.attack(newGame(t, "")), "with all defences")
			require.True(t, tc.attack(newGame(t, tc.defence)), "without %s", tc.defence)
		})
	}
}

func ok(g *game, err error) {
	g.tb.Helper()
	require.NoError(g.tb, err)
}

// TestReplayedReveal: a reveal counts once.
func TestReplayedReveal(t *testing.T) {
	t.Parallel()
	g := newGame(t, "")
	a, b := g.bid("a", 300), g.bid("b", 400)
	require.NoError(t, g.bring(4, a, b))
	g.seal()
	require.NoError(t, g.reveal(11, "a", a))
	before := g.rfp
	require.ErrorIs(t, g.reveal(12, "a", a), mman.ErrExists)
	require.ErrorIs(t, g.reveal(12, "stranger", a), mman.ErrNotFound)
	require.ErrorIs(t, g.reveal(revealBy+1, "b", b), mman.ErrDeadline)
	require.Equal(t, before, g.rfp)
	g.award(revealBy)
	require.ErrorIs(t, g.reveal(revealBy, "b", b), mman.ErrExists, "it is decided")
}

// TestPeek: what the consumer holds before the bids are opened does not determine
// a bid, because of the salt: it tries every price there could be. Without the salt
// it finds the bid at once.
func TestPeek(t *testing.T) {
	t.Parallel()
	const secret, most = 777, 2000
	peek := func(digest, salt mman.Hash) (found []mman.Amount) {
		g := newGame(t, "")
		for p := range mman.Amount(most) {
			b := g.bid("bidder", p)
			if market.Seal(chainID, requestID(), address(t, "bidder"), b.bytes, salt) == digest {
				found = append(found, p)
			}
		}
		return found
	}
	g := newGame(t, "")
	b := g.bid("bidder", secret)
	require.Equal(t, []mman.Amount{secret}, peek(b.commitment.Digest, b.salt), "who knows the salt finds it")
	require.Empty(t, peek(b.commitment.Digest, mman.Hash{}), "the consumer does not know it")
	bare := market.Seal(chainID, requestID(), address(t, "bidder"), b.bytes, mman.Hash{})
	require.Equal(t, []mman.Amount{secret}, peek(bare, mman.Hash{}), "without the defence")

	// Nor does the length of what travels tell anything, and what is on the ledger
	// before is the digest.
	short, _ := g.ack(g.bid("bidder", 1))
	long, _ := g.ack(g.bid("bidder", mman.MaxSupply))
	require.Len(t, short, len(long))
	require.NoError(t, g.bring(4, b))
	require.Equal(t, []rfp.Entry{{Bidder: address(t, "bidder"), Digest: b.commitment.Digest, State: rfp.Committed}}, g.rfp.Bids)
}

// TestDomains: a commitment binds its chain, its request and its bidder, and the
// parts of what is hashed cannot be shifted against each other.
func TestDomains(t *testing.T) {
	t.Parallel()
	g := newGame(t, "")
	b := g.bid("a", 5)
	base := market.Seal(chainID, requestID(), address(t, "a"), b.bytes, b.salt)
	require.Equal(t, b.commitment.Digest, base)
	for name, other := range map[string]mman.Hash{
		"chain":   market.Seal("mman-local-11111111", requestID(), address(t, "a"), b.bytes, b.salt),
		"request": market.Seal(chainID, mman.RequestID{9}, address(t, "a"), b.bytes, b.salt),
		"bidder":  market.Seal(chainID, requestID(), address(t, "b"), b.bytes, b.salt),
		"bid":     market.Seal(chainID, requestID(), address(t, "a"), g.bid("a", 6).bytes, b.salt),
		"salt":    market.Seal(chainID, requestID(), address(t, "a"), b.bytes, mman.Hash{1}),
	} {
		require.NotEqual(t, base, other, name)
	}
}
