//go:build !unix

package listener

import "net"

// SetBacklog leaves the length of the queue to the system.
func SetBacklog(net.Listener, int) error { return nil }
