//go:build !linux

package listener

import "net"

func corker(net.Conn) func(on bool) { return func(bool) {} }
