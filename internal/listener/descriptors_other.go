//go:build !unix

package listener

import (
	"math"
	"net"
)

func descriptorLimit() uintptr { return math.MaxInt }

func descriptorOf(net.Conn) uintptr { return 0 }
