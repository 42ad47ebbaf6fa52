package quota

import (
	"net/netip"
	"strconv"
	"strings"
)

// ParseAddress reads an address as Kafka does, which takes more than most: an
// IPv4 address may have fewer than four parts, of which the last fills the rest
// (127.1 is 127.0.0.1), and zeros in front, that mean nothing; an IPv6 address
// may stand in brackets.
func ParseAddress(text string) (netip.Addr, bool) {
	if inner, ok := strings.CutPrefix(text, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(inner)
		return a, ok && err == nil && a.Is6()
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return a, true
	}
	return shortAddress(text)
}

// maxShortAddress is how long Kafka lets an IPv4 address be.
const maxShortAddress = len("255.255.255.255")

func shortAddress(text string) (netip.Addr, bool) {
	parts := strings.Split(text, ".")
	if len(text) > maxShortAddress || len(parts) > 4 {
		return netip.Addr{}, false
	}
	var all uint64
	for i, p := range parts {
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (5 - len(parts)) // What the parts before have left.
		}
		n, err := strconv.ParseUint(p, 10, 64)
		if err != nil || n >= 1<<bits {
			return netip.Addr{}, false
		}
		all = all<<bits | n
	}
	return netip.AddrFrom4([4]byte{byte(all >> 24), byte(all >> 16), byte(all >> 8), byte(all)}), true
}

// Addresses returns the limits of some addresses, for a [Meter] of
// connections: it charges them as clients without a user.
func Addresses(bounds map[Part]float64) Limits {
	clients := make(map[Entity]float64, len(bounds))
	for p, v := range bounds {
		clients[Entity{Client: p}] = v
	}
	return NewLimits(clients)
}
