package market

import mman "github.com/limboid/massive-man"

// SettleLatest is Settle without its defence: the latest receipt counts that
// somebody brings, not the highest.
func (l Lease) SettleLatest(r Receipt) (Lease, mman.Amount, error) {
	return l.settle(r, func(_ LanePaid, r Receipt) LanePaid { return LanePaid{r.Lane, r.Seq, r.Net()} })
}
