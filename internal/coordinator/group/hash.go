package group

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"slices"
	"unicode/utf16"

	"github.com/barnabas-log/barnabas/internal/metadata"
)

// Kafka keeps, with the epoch of a consumer group, a hash of the topics that the
// group is subscribed to: ids, partitions and racks. Ours is the same, so that a
// group whose records Kafka wrote does not rebalance because we took over.

// topicHash is a topic's part of it, as Kafka's Utils.computeTopicHash.
func topicHash(dst []byte, image *metadata.Image, t *metadata.Topic) ([]byte, uint64) {
	b := append(dst[:0], 0) // The version of the hash.
	b = binary.LittleEndian.AppendUint64(b, binary.BigEndian.Uint64(t.ID[:8]))
	b = binary.LittleEndian.AppendUint64(b, binary.BigEndian.Uint64(t.ID[8:]))
	b = appendText(b, t.Name)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(t.Partitions)))
	var racks []string
	for i, p := range t.Partitions {
		b = binary.LittleEndian.AppendUint32(b, uint32(i))
		racks = racks[:0]
		for _, node := range p.Replicas {
			if broker := image.Broker(node); broker != nil && broker.Rack != nil {
				racks = append(racks, *broker.Rack)
			}
		}
		slices.Sort(racks)
		for _, rack := range racks {
			b = binary.LittleEndian.AppendUint32(b, uint32(javaLength(rack)))
			b = appendText(b, rack)
		}
	}
	return b, xxh3(b)
}

// appendText appends a string as hash4j does: its UTF-16 units, then their
// number.
func appendText(b []byte, s string) []byte {
	n := uint32(0)
	for _, r := range s {
		if r1, r2 := utf16.EncodeRune(r); r >= 0x10000 {
			b = binary.LittleEndian.AppendUint16(b, uint16(r1))
			b = binary.LittleEndian.AppendUint16(b, uint16(r2))
			n += 2
			continue
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(r))
		n++
	}
	return binary.LittleEndian.AppendUint32(b, n)
}

// javaLength is a string's length as Java counts it: in UTF-16 units.
func javaLength(s string) (n int) {
	for _, r := range s {
		n++
		if r >= 0x10000 {
			n++
		}
	}
	return n
}

// groupHash puts the hashes of topics, in the order of their names, together.
func groupHash(topics []uint64) int64 {
	if len(topics) == 0 {
		return 0
	}
	b := make([]byte, 0, 8*len(topics))
	for _, h := range topics {
		b = binary.LittleEndian.AppendUint64(b, h)
	}
	return int64(xxh3(b))
}

// What follows is XXH3 with 64 bits, no seed and the default secret, as its
// specification has it (github.com/Cyan4973/xxHash, doc/xxhash_spec.md).
const (
	prime32x1 = 0x9E3779B1
	prime32x2 = 0x85EBCA77
	prime32x3 = 0xC2B2AE3D
	prime64x1 = 0x9E3779B185EBCA87
	prime64x2 = 0xC2B2AE3D27D4EB4F
	prime64x3 = 0x165667B19E3779F9
	prime64x4 = 0x85EBCA77C2B2AE63
	prime64x5 = 0x27D4EB2F165667C5
	primeMix1 = 0x165667919E3779F9
	primeMix2 = 0x9FB21C651E98DF25
)

var secret = func() []byte {
	b, err := hex.DecodeString("b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f" +
		"cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c" +
		"3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8" +
		"a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364" +
		"eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e" +
		"2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e")
	if err != nil {
		panic(err)
	}
	return b
}()

func le64(b []byte, at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
func le32(b []byte, at int) uint64 { return uint64(binary.LittleEndian.Uint32(b[at:])) }

// fold multiplies to 128 bits and puts the halves together.
func fold(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	return high ^ low
}

func avalanche(h uint64) uint64 {
	h = (h ^ h>>37) * primeMix1
	return h ^ h>>32
}

// mix16 takes sixteen bytes of data with sixteen of the secret.
func mix16(b []byte, at, secretAt int) uint64 {
	return fold(le64(b, at)^le64(secret, secretAt), le64(b, at+8)^le64(secret, secretAt+8))
}

func xxh3(b []byte) uint64 {
	switch n := len(b); {
	case n <= 16:
		return xxh3Short(b)
	case n <= 128:
		h := uint64(n) * prime64x1
		for i := range (n + 31) / 32 {
			h += mix16(b, 16*i, 32*i) + mix16(b, n-16*(i+1), 32*i+16)
		}
		return avalanche(h)
	case n <= 240:
		return xxh3Middle(b)
	default:
		return xxh3Long(b)
	}
}

func xxh3Short(b []byte) uint64 {
	n := len(b)
	switch {
	case n > 8:
		low := le64(b, 0) ^ le64(secret, 24) ^ le64(secret, 32)
		high := le64(b, n-8) ^ le64(secret, 40) ^ le64(secret, 48)
		return avalanche(uint64(n) + bits.ReverseBytes64(low) + high + fold(low, high))
	case n >= 4:
		h := (le32(b, 0)<<32 | le32(b, n-4)) ^ le64(secret, 8) ^ le64(secret, 16)
		h = (h ^ bits.RotateLeft64(h, 49) ^ bits.RotateLeft64(h, 24)) * primeMix2
		h = (h ^ (h>>35 + uint64(n))) * primeMix2
		return h ^ h>>28
	case n > 0:
		v := uint64(b[0])<<16 | uint64(b[n/2])<<24 | uint64(b[n-1]) | uint64(n)<<8
		return finish(v ^ le32(secret, 0) ^ le32(secret, 4))
	}
	return finish(le64(secret, 56) ^ le64(secret, 64))
}

// finish is the last step of the older XXH64.
func finish(h uint64) uint64 {
	h = (h ^ h>>33) * prime64x2
	h = (h ^ h>>29) * prime64x3
	return h ^ h>>32
}

func xxh3Middle(b []byte) uint64 {
	n := len(b)
	h := uint64(n) * prime64x1
	for i := range 8 {
		h += mix16(b, 16*i, 16*i)
	}
	h = avalanche(h)
	for i := 8; i < n/16; i++ {
		h += mix16(b, 16*i, 16*(i-8)+3)
	}
	return avalanche(h + mix16(b, n-16, 136-17))
}

// stripe is how many bytes are taken at once, and block how many before the
// accumulators are scrambled.
const (
	stripe = 64
	block  = stripe * (192 - stripe) / 8
)

func xxh3Long(b []byte) uint64 {
	acc := [8]uint64{prime32x3, prime64x1, prime64x2, prime64x3, prime64x4, prime32x2, prime64x5, prime32x1}
	n := len(b)
	for at := 0; at < n-1; at += block {
		stripes := min(block, n-1-at) / stripe
		for i := range stripes {
			accumulate(&acc, b[at+stripe*i:], secret[8*i:])
		}
		if at+block <= n-1 {
			scramble(&acc)
		}
	}
	accumulate(&acc, b[n-stripe:], secret[192-stripe-7:])
	h := uint64(n) * prime64x1
	for i := range 4 {
		h += fold(acc[2*i]^le64(secret, 11+16*i), acc[2*i+1]^le64(secret, 11+16*i+8))
	}
	return avalanche(h)
}

func accumulate(acc *[8]uint64, b, secret []byte) {
	for i := range acc {
		v := le64(b, 8*i)
		k := v ^ le64(secret, 8*i)
		acc[i^1] += v
		acc[i] += (k & 0xFFFFFFFF) * (k >> 32)
	}
}

func scramble(acc *[8]uint64) {
	for i := range acc {
		acc[i] = (acc[i] ^ acc[i]>>47 ^ le64(secret, 192-stripe+8*i)) * prime32x1
	}
}
