//go:build !linux

package p2p

import "net"

// listenUDP opens a socket.
func listenUDP(network string, at *net.UDPAddr) (net.PacketConn, error) {
	return net.ListenUDP(network, at)
}
