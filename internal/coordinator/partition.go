package coordinator

import "unicode/utf16"

// Partition is the partition, of count, that holds what is kept under a key: a
// group's or a transactional id. It is the true absolute value of Java's hash of
// the string, over UTF-16 units.
func Partition(key string, count int32) int32 {
	var hash int32
	for _, r := range key {
		if hi, lo := utf16.EncodeRune(r); hi != '\uFFFD' {
			hash = (31*hash+int32(hi))*31 + int32(lo)
			continue
		}
		hash = 31*hash + int32(r)
	}
	if hash < 0 {
		hash = -hash // The least stays negative: Java's abs says 0.
	}
	return max(hash, 0) % count
}
