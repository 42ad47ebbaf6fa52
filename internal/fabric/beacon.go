package fabric

import (
	"net/netip"
	"strconv"
)

// Messages of beacons. Each field is a frame of its own.
const (
	welcome = "W"
	beacon  = "B"
)

// Welcome is what a tower says to each new subscriber.
func Welcome() []byte { return []byte(welcome) }

// IsWelcome reports whether frames are a tower's welcome.
func IsWelcome(frames [][]byte) bool { return len(frames) == 1 && string(frames[0]) == welcome }

// Beacon is what a node says to its towers.
type Beacon struct {
	Address string // Who it is.
	Host    string // Where it can be reached, or "" if the tower knows better.
	Port    uint16
}

// Frames of b.
func (b Beacon) Frames() [][]byte {
	return [][]byte{[]byte(beacon), []byte(b.Address), []byte(b.Host), strconv.AppendUint(nil, uint64(b.Port), 10)}
}

// ParseBeacon reads what a node says.
func ParseBeacon(frames [][]byte) (Beacon, error) {
	if len(frames) != 4 || string(frames[0]) != beacon {
		return Beacon{}, ErrFrames
	}
	b := Beacon{Address: string(frames[1]), Host: string(frames[2])}
	if b.Address == "" || CheckName(b.Address) != nil || CheckName(b.Host) != nil {
		return Beacon{}, ErrName
	}
	port, err := strconv.ParseUint(string(frames[3]), 10, 16)
	if err != nil || port == 0 {
		return Beacon{}, ErrName
	}
	b.Port = uint16(port)
	return b, nil
}

// Peer is a node as towers tell of it.
type Peer struct {
	Address  string
	Endpoint string // tcp://host:port
}

// Frames of p.
func (p Peer) Frames() [][]byte {
	return [][]byte{[]byte(beacon), []byte(p.Address), []byte(p.Endpoint)}
}

// maxEndpoint has room for the longest host, and tcp://, brackets and port.
const maxEndpoint = maxName + 16

// ParsePeer reads what a tower says of a node.
func ParsePeer(frames [][]byte) (Peer, error) {
	if len(frames) != 3 || string(frames[0]) != beacon {
		return Peer{}, ErrFrames
	}
	if len(frames[1]) == 0 || len(frames[1]) > maxName || len(frames[2]) == 0 || len(frames[2]) > maxEndpoint {
		return Peer{}, ErrName
	}
	return Peer{Address: string(frames[1]), Endpoint: string(frames[2])}, nil
}

// Tower rewrites beacons: that is all that towers do.
type Tower struct {
	// Own is this machine's first address that is not a loopback, if it has one:
	// where others reach nodes that reach the tower by loopback.
	Own netip.Addr
}

// Rewrite says where the node is whose beacon came from the address from, which
// is invalid if it is not known.
func (t Tower) Rewrite(b Beacon, from netip.Addr) Peer {
	host := b.Host
	if host == "" {
		host = t.host(from.Unmap()).WithZone("").String()
	}
	return Peer{Address: b.Address, Endpoint: "tcp://" + bracketed(host) + ":" + strconv.Itoa(int(b.Port))}
}

func (t Tower) host(from netip.Addr) netip.Addr {
	if from.IsValid() && !from.IsLoopback() && !from.IsUnspecified() {
		return from
	}
	if t.Own.IsValid() {
		return t.Own.Unmap()
	}
	if from.IsLoopback() {
		return from
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// bracketed is how a host is written in front of a port.
func bracketed(host string) string {
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		return "[" + host + "]"
	}
	return host
}
