package zmtp

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// z85 are the digits of RFC 32: five of them are four bytes.
const z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"

const keyText = 40 // Characters of a key.

// String writes a key in Z85.
func (k Key) String() string {
	var text strings.Builder
	for b := k[:]; len(b) > 0; b = b[4:] {
		n := binary.BigEndian.Uint32(b)
		for div := uint32(85 * 85 * 85 * 85); div > 0; div /= 85 {
			text.WriteByte(z85[n/div%85])
		}
	}
	return text.String()
}

// ParseKey reads a key of 40 characters in Z85.
func ParseKey(text string) (k Key, err error) {
	if len(text) != keyText {
		return Key{}, fmt.Errorf("zmtp: a key of %d characters, not %d", len(text), keyText)
	}
	for i := 0; i < len(k); i, text = i+4, text[5:] {
		n := uint64(0)
		for _, c := range []byte(text[:5]) {
			digit := strings.IndexByte(z85, c)
			if digit < 0 {
				return Key{}, fmt.Errorf("zmtp: %q is no character of a key", c)
			}
			n = 85*n + uint64(digit)
		}
		if n > 1<<32-1 {
			return Key{}, fmt.Errorf("zmtp: %q is too large for four bytes of a key", text[:5])
		}
		binary.BigEndian.PutUint32(k[i:], uint32(n))
	}
	return k, nil
}
