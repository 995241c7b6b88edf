package gateway

import (
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	mman "github.com/limboid/massive-man"
)

// undefended switches defences off, one by one: tests show with it that each attack
// works without its defence. It is all false.
type undefended struct {
	host    bool // any Host is answered
	origin  bool // any page may call
	token   bool // nobody is asked for the token
	cookies bool // all cookies travel
}

// TokenParam is the query parameter in which a browser brings the token once; a
// cookie takes its place.
const TokenParam = "mman_token"

// local refuses what a page of somebody else's could send, or make a browser send
// under a name of its own.
func (g *Gateway) local(r *http.Request) error {
	host, port, err := net.SplitHostPort(r.Host)
	ip, _ := netip.ParseAddr(host)
	if !g.off.host && (err != nil || port != g.port || host != "localhost" && !ip.IsLoopback()) {
		return fmt.Errorf("%w: host %.64q: this address is http://%s", mman.ErrDenied, r.Host, g.Addr())
	}
	if g.off.origin {
		return nil
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		if u, err := url.Parse(origin); err != nil || u.Scheme != "http" || u.Host != r.Host {
			return fmt.Errorf("%w: origin %.64q is another site", mman.ErrDenied, origin)
		}
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return fmt.Errorf("%w: a page of another site (%.16q) asks", mman.ErrDenied, site)
	}
	return nil
}

// tokenFields are where clients put their key.
func tokenFields() []string {
	return []string{"X-Api-Key", "Api-Key", "X-Goog-Api-Key", "X-Mman-Token"}
}

// known reports whether the request has the token, and takes it out of the request:
// it is this machine's.
func (g *Gateway) known(r *http.Request) bool {
	ok := g.off.token
	if word, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); found && g.is(word) {
		r.Header.Del("Authorization")
		ok = true
	}
	for _, name := range tokenFields() {
		if g.is(r.Header.Get(name)) {
			r.Header.Del(name)
			ok = true
		}
	}
	cookie, err := r.Cookie(g.cookie)
	return ok || err == nil && g.is(cookie.Value)
}

func (g *Gateway) is(word string) bool {
	return subtle.ConstantTimeCompare([]byte(word), []byte(g.cfg.Token)) == 1
}

// welcome takes the token of a browser that brings it in the address, and sends it
// on without.
func (g *Gateway) welcome(w http.ResponseWriter, r *http.Request) bool {
	query := r.URL.Query()
	if r.Method != http.MethodGet || !g.is(query.Get(TokenParam)) {
		return false
	}
	query.Del(TokenParam)
	http.SetCookie(w, &http.Cookie{Name: g.cookie, Value: g.cfg.Token, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode}) //nolint:gosec // loopback has no TLS
	to := url.URL{Path: "/" + strings.TrimLeft(r.URL.Path, `/\`), RawQuery: query.Encode()}
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Location", to.String())
	w.WriteHeader(http.StatusSeeOther)
	return true
}

// outgoing returns the cookies that the endpoint itself set: a browser sends those
// of every service of this machine, whatever its port.
func (g *Gateway) outgoing(r *http.Request) string {
	var out []string
	for _, c := range r.Cookies() {
		if name, ok := strings.CutPrefix(c.Name, g.cookie+"-"); ok {
			out = append(out, name+"="+c.Value)
		} else if g.off.cookies {
			out = append(out, c.Name+"="+c.Value)
		}
	}
	return strings.Join(out, "; ")
}

// incoming returns a cookie of the endpoint under a name that no other service of
// this machine has, "" for one that is none.
func (g *Gateway) incoming(value string) string {
	c, err := http.ParseSetCookie(value)
	if err != nil {
		return ""
	}
	c.Name, c.Domain, c.Secure, c.SameSite = g.cookie+"-"+c.Name, "", false, http.SameSiteStrictMode
	return c.String()
}
