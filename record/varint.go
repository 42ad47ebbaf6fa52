package record

import "math"

// invalid is a position behind every buffer: a read there fails again, so a
// row of reads needs one check at its end.
const invalid = math.MaxInt / 2

// uvarint reads a varint of at most 32 bits at b[p] and returns the position
// after it, or invalid. As in Java, bits above the 32nd are lost and a sixth
// byte is an error.
func uvarint(b []byte, p int) (uint32, int) {
	if p < len(b) && b[p] < 0x80 {
		return uint32(b[p]), p + 1
	}
	return uvarintSlow(b, p)
}

//go:noinline
func uvarintSlow(b []byte, p int) (uint32, int) {
	if uint(p) < uint(len(b)) && uint(p+1) < uint(len(b)) && b[p+1] < 0x80 {
		return uint32(b[p]&0x7f) | uint32(b[p+1])<<7, p + 2
	}
	var v uint32
	for shift := 0; shift < 35; shift += 7 {
		if p >= len(b) {
			return 0, invalid
		}
		c := b[p]
		p++
		v |= uint32(c&0x7f) << shift
		if c < 0x80 {
			return v, p
		}
	}
	return 0, invalid
}

// uvarlong reads a varint of at most 64 bits.
func uvarlong(b []byte, p int) (uint64, int) {
	if p < len(b) && b[p] < 0x80 {
		return uint64(b[p]), p + 1
	}
	return uvarlongSlow(b, p)
}

//go:noinline
func uvarlongSlow(b []byte, p int) (uint64, int) {
	if uint(p) < uint(len(b)) && uint(p+1) < uint(len(b)) && b[p+1] < 0x80 {
		return uint64(b[p]&0x7f) | uint64(b[p+1])<<7, p + 2
	}
	var v uint64
	for shift := 0; shift < 70; shift += 7 {
		if p >= len(b) {
			return 0, invalid
		}
		c := b[p]
		p++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, p
		}
	}
	return 0, invalid
}

// unzigzag turns 0, 1, 2, 3 … into 0, -1, 1, -2 …
func unzigzag(u uint32) int32   { return int32(u>>1) ^ -int32(u&1) }
func unzigzag64(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

func appendVarint(b []byte, v int32) []byte {
	return appendUvarlong(b, uint64(uint32(v<<1)^uint32(v>>31)))
}

func appendVarlong(b []byte, v int64) []byte { return appendUvarlong(b, uint64(v<<1)^uint64(v>>63)) }

func appendUvarlong(b []byte, u uint64) []byte {
	for u >= 0x80 {
		b = append(b, byte(u)|0x80)
		u >>= 7
	}
	return append(b, byte(u))
}

// sizeVarint is how many bytes appendVarint writes.
func sizeVarint(v int32) int {
	n, u := 1, uint32(v<<1)^uint32(v>>31)
	for ; u >= 0x80; u >>= 7 {
		n++
	}
	return n
}

func sizeVarlong(v int64) int {
	n, u := 1, uint64(v<<1)^uint64(v>>63)
	for ; u >= 0x80; u >>= 7 {
		n++
	}
	return n
}
