package coordinator

import "testing"

// The hashes are Java's "…".hashCode().
func TestPartitionIsJavas(t *testing.T) {
	for key, hash := range map[string]int32{
		"": 0, "a": 97, "console-consumer-1": 35782224, "Aa": 2112, "BB": 2112, "größe": 98762257, "\U0001F600": 1772899,
	} {
		if got := Partition(key, 1<<31-1); got != hash {
			t.Errorf("hash of %q is %d, want %d", key, got, hash)
		}
	}
	// Its hash is the least there is.
	if got := Partition("polygenelubricants", 50); got != 0 {
		t.Errorf("partition of the least hash is %d", got)
	}
}
