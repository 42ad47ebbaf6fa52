package zmtp

import (
	"bytes"
	"testing"
)

// TestBatchMemory: what is copied into a batch stays what it was while the batch
// grows, and is copied once when it is known how much comes.
func TestBatchMemory(t *testing.T) {
	var sizes []int
	for i := range 60 {
		sizes = append(sizes, i*i%1500)
	}
	sizes = append(sizes, ownFrame, ownFrame+1, 0, maxBatchBytes, 3)
	for _, known := range []bool{false, true} {
		b, ahead := new(Batch), 40_000
		for i, size := range sizes {
			if ahead -= size; known {
				b.ahead = max(0, ahead)
			}
			b.add(frame{body: bytes.Repeat([]byte{byte(i)}, size)})
		}
		for i, size := range sizes {
			if got := b.Messages[i][0]; !bytes.Equal(got, bytes.Repeat([]byte{byte(i)}, size)) {
				t.Errorf("%v: message %d is %d bytes, or others", known, i, len(got))
			}
		}
		if first := &b.Messages[1][0][0]; known && first != &b.arena[:1][0] {
			t.Error("the memory was not enough")
		}
	}
}

// TestBatchRoom: a new batch gets the room that the last one needed, and one that
// was given back has it.
func TestBatchRoom(t *testing.T) {
	b := new(Batch)
	b.expect(0)
	if b.expect(100); cap(b.Messages) != 100 || cap(b.frames) != 200 || !b.empty() {
		t.Errorf("%+v", b)
	}
	if b.expect(1000); cap(b.Messages) != 100 {
		t.Errorf("%+v", b)
	}
}
