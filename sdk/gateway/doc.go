// Package gateway is the loopback address at which a consumer's programs reach an
// endpoint that it has leased: it speaks the endpoint's own API, so that unmodified
// clients work, and makes a call on the lease of each request.
//
// It is for the programs of one person on one machine. It answers a loopback Host
// only, refuses other sites' pages, and asks every request for the token: calls cost
// money. What cookies other services of this machine have set stays here.
//
// It knows no lease and no money: what carries out a call is handed in.
package gateway
