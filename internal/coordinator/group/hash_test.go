package group

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"testing"
)

// The hash is that of hash4j, the library that Kafka uses: testdata/xxh3.txt has
// what it says for so many bytes 3, 10, 17 and so on.
func TestHashIsKafkas(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/xxh3.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range bytes.Split(bytes.TrimSpace(data), []byte("\n")) {
		var n int
		var want uint64
		if _, err := fmt.Sscanf(string(line), "%d %x", &n, &want); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(7*i + 3)
		}
		if got := xxh3(b); got != want {
			t.Errorf("%d bytes: %x, want %x", n, got, want)
		}
	}
}

// A string is its UTF-16 units and their number.
func TestTextIsHashedAsJavaHasIt(t *testing.T) {
	t.Parallel()
	b := []byte{0}
	b = binary.LittleEndian.AppendUint64(b, 1)
	b = binary.LittleEndian.AppendUint64(b, 2)
	b = appendText(b, "café-ok")
	b = binary.LittleEndian.AppendUint32(b, 3)
	if got := xxh3(b); got != 0x9cf35986d0f9a023 {
		t.Errorf("%x", got)
	}
	if n := javaLength("a😀é"); n != 4 {
		t.Errorf("length %d", n)
	}
}
