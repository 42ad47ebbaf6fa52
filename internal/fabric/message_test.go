package fabric

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	producerID = "E004AC4B1ECA4E43ACD682272802F34E"
	consumerID = "02877F594F7648CD98E5A811EBC428AA"
	readerID   = "8C14821D632F49448ED509D945FAFB3A"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What C sends, as it was captured, is what we write, and we read it.
func TestCapturedMessages(t *testing.T) {
	const (
		producer = "4530303441433442314543413445343341434436383232373238303246333445"
		consumer = "3032383737463539344637363438434439384535413831314542433432384141"
		reader   = "3843313438323144363332463439343438454435303944393435464146423341"
		hello    = "68656c6c6f"
	)
	f := func(frame string, m Message) {
		t.Helper()
		want := unhex(t, frame)
		if got := Append(nil, &m); !bytes.Equal(got, want) {
			t.Errorf("%c: wrote\n%x, want\n%x", m.Kind, got, want)
		}
		for _, b := range [][]byte{want, append(slices.Clip(want), "abc"...)} {
			var read Message
			if err := read.Parse(b); err != nil {
				t.Errorf("%x: %v", b, err)
			} else if d := cmp.Diff(plain(m), plain(read)); d != "" {
				t.Errorf("%x:\n%s", b, d)
			}
		}
	}
	topic := []byte("hello")
	p, c, r := []byte(producerID), []byte(consumerID), []byte(readerID)
	f("4d"+hello+"00 01 20"+producer+"05"+hello+"0000000000000000", Message{Kind: Record, Topic: topic, Address: p, Subject: topic})
	f("48"+hello+"00 01 20"+producer+"05"+hello+"0000000000000001", Message{Kind: Head, Topic: topic, Address: p, Subject: topic, Sequence: 1})
	f("4b"+producer+"00 01 05"+hello+"0000000000000001", Message{Kind: Ack, Topic: p, Subject: topic, Sequence: 1})
	f("47"+hello+"00 01 20"+consumer, Message{Kind: GetHeads, Topic: topic, Address: c})
	f("45"+consumer+"00 01 20"+producer+"05"+hello+"0000000000000001", Message{Kind: DirectHead, Topic: c, Address: p, Subject: topic, Sequence: 1})
	f("46"+producer+"00 01 20"+consumer+"05"+hello+"0000000000000000 000186a0", Message{Kind: Fetch, Topic: p, Address: c, Subject: topic, Count: 100_000})
	f("44"+consumer+"00 01 20"+producer+"05"+hello+"0000000000000001", Message{Kind: DirectRecord, Topic: c, Address: p, Subject: topic, Sequence: 1})
	f("4c"+consumer+"00 01 20"+reader, Message{Kind: StoreHello, Topic: c, Address: r})
	f("57"+reader+"00 01 20"+consumer+"00000000", Message{Kind: ConsumerHello, Topic: r, Address: c})
	f(`57 46373237454339354637423134413443384539414335443732433841323834 37 00 01
		20 41443632363643333933413034313331413346343130414643463135363445 39 00000001 00000005 68656c6c6f`,
		Message{Kind: ConsumerHello, Topic: []byte("F727EC95F7B14A4C8E9AC5D72C8A2847"), Address: []byte("AD6266C393A04131A3F410AFCF1564E9"), Topics: MakeTopics("hello")})
}

// The sizes of the frames that were captured, in case the bytes above were
// shortened in both places.
func TestCapturedSizes(t *testing.T) {
	f := func(size int, m Message) {
		t.Helper()
		if got := len(Append(nil, &m)); got != size {
			t.Errorf("%c: %d bytes, want %d", m.Kind, got, size)
		}
	}
	topic, id := []byte("hello"), []byte(producerID)
	f(0x37, Message{Kind: Record, Topic: topic, Address: id, Subject: topic})
	f(0x37, Message{Kind: Head, Topic: topic, Address: id, Subject: topic})
	f(0x31, Message{Kind: Ack, Topic: id, Subject: topic})
	f(0x29, Message{Kind: GetHeads, Topic: topic, Address: id})
	f(0x52, Message{Kind: DirectHead, Topic: id, Address: id, Subject: topic})
	f(0x56, Message{Kind: Fetch, Topic: id, Address: id, Subject: topic})
	f(0x52, Message{Kind: DirectRecord, Topic: id, Address: id, Subject: topic})
	f(0x44, Message{Kind: StoreHello, Topic: id, Address: id})
	f(0x48, Message{Kind: ConsumerHello, Topic: id, Address: id})
	f(0x51, Message{Kind: ConsumerHello, Topic: id, Address: id, Topics: MakeTopics("hello")})
	f(0x33, Message{Kind: Record, Topic: []byte("emp"), Address: id, Subject: []byte("emp"), Sequence: 1})
}

// plain is a message that can be compared: empty is nil.
func plain(m Message) map[string]any {
	return map[string]any{
		"kind": string(m.Kind), "topic": string(m.Topic), "address": string(m.Address), "subject": string(m.Subject),
		"sequence": m.Sequence, "count": m.Count, "first": m.First, "topics": names(m.Topics),
	}
}

func names(topics Topics) []string {
	var names []string
	for name := range topics.All() {
		names = append(names, string(name))
	}
	return names
}

func TestFirst(t *testing.T) {
	m := Message{Kind: DirectHead, Topic: []byte("c"), Address: []byte("p"), Subject: []byte("s"), Sequence: 9, First: 7}
	var read Message
	if err := read.Parse(Append(nil, &m)); err != nil || read.First != 7 || read.Sequence != 9 {
		t.Errorf("read %+v, %v", read, err)
	}
	m.First = 0
	without := Append(nil, &m)
	if err := read.Parse(append(without, 1, 2, 3, 4, 5, 6, 7)); err != nil || read.First != 0 {
		t.Errorf("seven bytes too much: %+v, %v", read, err)
	}
	if err := read.Parse(append(without, 0xff, 2, 3, 4, 5, 6, 7, 8)); err != ErrSequence {
		t.Errorf("an impossible first: %+v, %v", read, err)
	}
}

func TestParseErrors(t *testing.T) {
	f := func(want error, frame string) {
		t.Helper()
		var m Message
		if err := m.Parse([]byte(frame)); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", frame, err, want)
		}
	}
	long := strings.Repeat("x", 255)
	f(ErrTruncated, "")
	f(ErrKind, "X")
	f(ErrKind, "X\x00\x01")
	f(ErrTruncated, "M")
	f(ErrTruncated, "Mtopic")
	f(ErrTruncated, "Mtopic\x00")
	f(ErrTruncated, "M"+long)
	f(ErrName, "M"+long+"x")
	f(ErrName, "M"+long+"x\x00\x01\x01a\x01b12345678")
	f(nil, "M"+long+"\x00\x01\x01a\x01b\x0012345678")
	f(ErrVersion, "Mtopic\x00\x02\x01a\x01b\x0012345678")
	f(ErrVersion, "Mtopic\x00\x24550e8400-e29b-41d4-a716-446655440000") // As jdafka does.
	f(ErrTruncated, "M\x00\x01\x02a")
	f(ErrTruncated, "M\x00\x01\x01a")
	f(ErrTruncated, "M\x00\x01\x01a\x01b\x00234567")
	f(ErrName, "M\x00\x01\x00\x01b\x0012345678")
	f(ErrName, "M\x00\x01\x02a\x00\x01b\x0012345678")
	f(ErrName, "M\x00\x01\x01a\x02b\x00\x0012345678")
	f(ErrSequence, "M\x00\x01\x01a\x01b\xff\xff\xff\xff\xff\xff\xff\xff")
	f(ErrSequence, "M\x00\x01\x01a\x01b\x7f\xff\xff\xff\xff\xff\xff\xff")
	f(nil, "M\x00\x01\x01a\x01b\x7f\xff\xff\xff\xff\xff\xff\xfe")
	f(ErrTruncated, "F\x00\x01\x01a\x01b\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x01")
	f(ErrTruncated, "W\x00\x01\x01a\x00\x00\x00")
	f(ErrTruncated, "W\x00\x01\x01a\x00\x00\x00\x01")
	f(ErrTruncated, "W\x00\x01\x01a\xff\xff\xff\xff\x00\x00\x00\x00")
	f(ErrTruncated, "W\x00\x01\x01a\x00\x00\x00\x01\x00\x00\x00\x02b")
	f(ErrName, "W\x00\x01\x01a\x00\x00\x00\x01\xff\xff\xff\xff")
	f(ErrName, "W\x00\x01\x01a\x00\x00\x00\x01\x00\x00\x00\x01\x00")
	f(nil, "W\x00\x01\x01a\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01b")
}

func TestParseFrames(t *testing.T) {
	f := func(want error, frames ...string) {
		t.Helper()
		var m Message
		content, err := m.ParseFrames(slices.Collect(func(yield func([]byte) bool) {
			for _, frame := range frames {
				if !yield([]byte(frame)) {
					return
				}
			}
		}))
		if !errors.Is(err, want) || err == nil && m.Kind.HasContent() && string(content) != frames[1] {
			t.Errorf("%q: %q, %v, want %v", frames, content, err, want)
		}
	}
	const record, hello = "Mt\x00\x01\x01a\x01t\x00\x00\x00\x00\x00\x00\x00\x01", "Lt\x00\x01\x01a"
	f(nil, record, "content")
	f(nil, record, "")
	f(nil, hello)
	f(ErrFrames)
	f(ErrFrames, record)
	f(ErrFrames, record, "", "")
	f(ErrFrames, hello, "")
	f(ErrTruncated, hello[:2], "")
}

func TestBeacons(t *testing.T) {
	b := Beacon{Address: producerID, Port: 49152}
	if d := cmp.Diff([][]byte{{0x42}, []byte(producerID), {}, unhex(t, "3439313532")}, b.Frames()); d != "" {
		t.Error(d)
	}
	if got, err := ParseBeacon(b.Frames()); err != nil || got != b {
		t.Errorf("%+v, %v", got, err)
	}
	p := Tower{}.Rewrite(b, netip.MustParseAddr("10.99.0.1"))
	if d := cmp.Diff([][]byte{{0x42}, []byte(producerID), unhex(t, "7463703a2f2f31302e39392e302e313a3439313532")}, p.Frames()); d != "" {
		t.Error(d)
	}
	if got, err := ParsePeer(p.Frames()); err != nil || got != p {
		t.Errorf("%+v, %v", got, err)
	}
	if !IsWelcome([][]byte{Welcome()}) || IsWelcome(p.Frames()) || IsWelcome(nil) {
		t.Error("welcome is not told from others")
	}
	f := func(frames ...string) {
		t.Helper()
		var bs [][]byte
		for _, frame := range frames {
			bs = append(bs, []byte(frame))
		}
		if b, err := ParseBeacon(bs); err == nil {
			t.Errorf("%q was read as beacon %+v", frames, b)
		}
		if p, err := ParsePeer(bs); err == nil {
			t.Errorf("%q was read as peer %+v", frames, p)
		}
	}
	f()
	f("B")
	f("B", "id", "", "0")
	f("B", "id", "", "65536")
	f("B", "id", "", "-1")
	f("B", "id", "", "")
	f("B", "", "", "1")
	f("B", "id", strings.Repeat("h", 256), "1")
	f("B", "id", "", "1", "")
	f("B", "id", "")
	f("B", "", "tcp://a:1")
	f("C", "id", "tcp://a:1")
	f("B", "id", strings.Repeat("h", 300))
}

func TestTower(t *testing.T) {
	f := func(own, host, from, want string) {
		t.Helper()
		var tower Tower
		var peer netip.Addr
		if own != "" {
			tower.Own = netip.MustParseAddr(own)
		}
		if from != "" {
			peer = netip.MustParseAddr(from)
		}
		if got := tower.Rewrite(Beacon{Address: "a", Host: host, Port: 7}, peer); got.Endpoint != want || got.Address != "a" {
			t.Errorf("own %q, host %q, from %q: got %+v, want %s", own, host, from, got, want)
		}
	}
	f("10.0.0.1", "", "10.0.0.2", "tcp://10.0.0.2:7")
	f("10.0.0.1", "", "127.0.0.1", "tcp://10.0.0.1:7")
	f("10.0.0.1", "", "", "tcp://10.0.0.1:7")
	f("", "", "127.0.0.1", "tcp://127.0.0.1:7")
	f("", "", "", "tcp://127.0.0.1:7")
	f("10.0.0.1", "somestring", "10.0.0.2", "tcp://somestring:7")
	f("10.0.0.1", "10.0.0.9", "127.0.0.1", "tcp://10.0.0.9:7")
	f("10.0.0.1", "", "::ffff:10.0.0.2", "tcp://10.0.0.2:7")
	f("10.0.0.1", "", "2001:db8::1", "tcp://[2001:db8::1]:7")
	f("10.0.0.1", "2001:db8::2", "", "tcp://[2001:db8::2]:7")
	f("10.0.0.1", "[2001:db8::2]", "", "tcp://[2001:db8::2]:7")
	f("", "", "::1", "tcp://[::1]:7")
	f("2001:db8::3", "", "::1", "tcp://[2001:db8::3]:7")
}

func TestPrefixes(t *testing.T) {
	var all []string
	for _, list := range [][][]byte{
		ProducerPrefixes("p"), ConsumerPrefixes("c"), TopicPrefixes("t"), WriterPrefixes("w"), PublishedPrefixes(), ReaderPrefixes("r"), BeaconPrefixes(),
	} {
		all = append(all, string(bytes.Join(list, []byte(","))))
	}
	if d := cmp.Diff([]string{"Kp,Fp", "Dc,Ec,Lc", "Mt,Ht", "Dw,Ew,Lw", "M,H", "F,G,Wr", "W,B"}, all); d != "" {
		t.Error(d)
	}
}

// What can be read is written again as it was, but for what is behind it; and
// nothing that is read is longer than the frame.
func FuzzParse(f *testing.F) {
	f.Add([]byte("Mt\x00\x01\x01a\x01t\x00\x00\x00\x00\x00\x00\x00\x01"))
	f.Add([]byte("Et\x00\x01\x01a\x01t\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01"))
	f.Add([]byte("Ft\x00\x01\x01a\x01t\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01"))
	f.Add([]byte("Kt\x00\x01\x01t\x00\x00\x00\x00\x00\x00\x00\x01"))
	f.Add([]byte("W\x00\x01\x01a\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01b"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		var m Message
		if err := m.Parse(frame); err != nil {
			return
		}
		if written := Append(nil, &m); !bytes.HasPrefix(frame, written) {
			t.Errorf("%x became %x", frame, written)
		}
		if size := len(m.Topic) + len(m.Address) + len(m.Subject) + len(m.Topics); size > len(frame) {
			t.Errorf("%x has fields of %d bytes", frame, size)
		}
		for _, name := range [][]byte{m.Topic, m.Address, m.Subject} {
			if CheckName(string(name)) != nil {
				t.Errorf("%x has the name %q", frame, name)
			}
		}
	})
}

func FuzzBeacons(f *testing.F) {
	f.Add([]byte("B"), []byte("id"), []byte("host"), []byte("1"))
	f.Fuzz(func(t *testing.T, a, b, c, d []byte) {
		if peer, err := ParsePeer([][]byte{a, b, c}); err == nil {
			if again, err := ParsePeer(peer.Frames()); err != nil || again != peer {
				t.Errorf("%+v became %+v, %v", peer, again, err)
			}
		}
		if node, err := ParseBeacon([][]byte{a, b, c, d}); err == nil {
			if again, err := ParseBeacon(node.Frames()); err != nil || again != node {
				t.Errorf("%+v became %+v, %v", node, again, err)
			}
			if _, err := ParsePeer(Tower{}.Rewrite(node, netip.Addr{}).Frames()); err != nil {
				t.Errorf("%+v cannot be told: %v", node, err)
			}
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	m := Message{Kind: Record, Topic: []byte("letters"), Address: []byte(producerID), Subject: []byte("letters"), Sequence: 12345}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = Append(dst[:0], &m)
	}
}

func BenchmarkParse(b *testing.B) {
	frame := Append(nil, &Message{Kind: Record, Topic: []byte("letters"), Address: []byte(producerID), Subject: []byte("letters"), Sequence: 12345})
	var m Message
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Parse(frame); err != nil {
			b.Fatal(err)
		}
	}
}
