package endpoint

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"

	mman "github.com/limboid/massive-man"
)

// index finds a secret in any of its writings, however the bytes come: an automaton
// after Aho and Corasick (Communications of the ACM 18(6), 1975) over all bytes.
type index struct {
	next  [][256]int32
	depth []int32
	found []bool
}

// newIndex makes the automaton of a secret.
func newIndex(secret string) *index {
	x := &index{}
	x.node(0)
	for _, w := range writings(secret) {
		at := int32(0)
		for _, c := range []byte(w) {
			if x.next[at][c] == 0 {
				x.next[at][c] = x.node(x.depth[at] + 1)
			}
			at = x.next[at][c]
		}
		x.found[at] = true
	}
	x.link()
	return x
}

func (x *index) node(depth int32) int32 {
	x.next = append(x.next, [256]int32{})
	x.depth = append(x.depth, depth)
	x.found = append(x.found, false)
	return int32(len(x.next) - 1) //nolint:gosec // some thousands
}

// link adds the transitions after a mismatch, in the order of depth.
func (x *index) link() {
	fail := make([]int32, len(x.next))
	var queue []int32
	for _, n := range x.next[0] {
		if n != 0 {
			queue = append(queue, n)
		}
	}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		x.found[at] = x.found[at] || x.found[fail[at]]
		for c := range 256 {
			n := x.next[at][c]
			if n == 0 {
				x.next[at][c] = x.next[fail[at]][c]
				continue
			}
			fail[n] = x.next[fail[at]][c]
			queue = append(queue, n)
		}
	}
}

// writings are the forms in which a secret is known again: as it is, reversed, in
// JSON, in URLs, in hexadecimal, and in base64 at each of the three places that it
// can have in a longer text.
func writings(secret string) []string {
	out := []string{secret, url.QueryEscape(secret), url.PathEscape(secret), hex.EncodeToString([]byte(secret)), fmt.Sprintf("%X", secret)}
	if b, err := json.Marshal(secret); err == nil {
		out = append(out, string(b[1:len(b)-1]))
	}
	backwards := []byte(secret)
	slices.Reverse(backwards)
	out = append(out, string(backwards))
	for shift := range 3 {
		shifted := append(make([]byte, shift), secret...)
		from, to := (shift*8+5)/6, len(shifted)*8/6 // what the secret alone decides
		out = append(out, base64.StdEncoding.EncodeToString(shifted)[from:to], base64.URLEncoding.EncodeToString(shifted)[from:to])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// sieve lets bytes through that cannot be part of the secret.
type sieve struct {
	index *index // nil lets everything through
	at    int32
	held  []byte
}

// sieveFew is how many bytes of what may become a secret tell nothing yet.
const sieveFew = 8

// pass returns what may go on; the bytes are valid until the next call. It fails when
// the secret is there.
func (s *sieve) pass(p []byte) ([]byte, error) {
	if s.index == nil {
		return p, nil
	}
	for _, c := range p {
		if s.at = s.index.next[s.at][c]; s.index.found[s.at] {
			return nil, errSecret()
		}
	}
	all := append(s.held, p...) //nolint:gocritic // the held bytes come first
	keep := min(len(all), int(s.index.depth[s.at]))
	s.held = append([]byte(nil), all[len(all)-keep:]...)
	return all[:len(all)-keep], nil
}

// yield gives up holding a few bytes after a pause: a message may end so.
func (s *sieve) yield() []byte {
	if len(s.held) == 0 || s.index.depth[s.at] >= sieveFew {
		return nil
	}
	return s.rest()
}

// rest returns what was held back to the end.
func (s *sieve) rest() []byte {
	out := s.held
	s.held = nil
	return out
}

// holds reports whether a text has the secret.
func (x *index) holds(text string) bool {
	_, err := (&sieve{index: x}).pass([]byte(text))
	return err != nil
}

func errSecret() error {
	return fmt.Errorf("%w: the answer holds the provider's secret and was stopped", mman.ErrDenied)
}
