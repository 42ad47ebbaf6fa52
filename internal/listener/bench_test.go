package listener

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// Many small requests in flight on one loopback connection: what a request
// costs besides its meaning. The client's half is in the time too.
func BenchmarkPipelined(b *testing.B) {
	f := func(inFlight, size int) {
		b.Run(fmt.Sprintf("inflight=%d/bytes=%d", inFlight, size), func(b *testing.B) { benchmarkPipelined(b, inFlight, size) })
	}
	f(1, 32)
	f(5, 32)
	f(100, 32)
	f(5, 1<<10)
	f(5, 16<<10)
	f(5, 256<<10)
}

type echo struct{}

func (echo) Handle(frame []byte, a *Answer) {
	out := binary.BigEndian.AppendUint32(a.Buffer(), 8)
	a.Send(append(out, frame[:8]...))
}

func (echo) Close() {}

func benchmarkPipelined(b *testing.B, inFlight, size int) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := NewServer(Options{
		Budget: NewBudget(64 << 20), MaxFrame: 1 << 20, Idle: time.Minute,
		Open: func(*Conn) Session { return echo{} }, Dropped: func(net.Addr, error) {},
	})
	ran := make(chan error)
	go func() { ran <- s.Run(l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	frame := append(binary.BigEndian.AppendUint32(nil, uint32(size)), make([]byte, size)...)
	w := bufio.NewWriterSize(c, max(len(frame), 4<<10))
	answers := bufio.NewReaderSize(c, 64<<10)
	answer := make([]byte, 12)
	read := func() {
		if _, err := io.ReadFull(answers, answer); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	sent, got := 0, 0
	for b.Loop() {
		w.Write(frame)
		if sent++; sent-got < inFlight {
			continue
		}
		w.Flush()
		read()
		for got++; answers.Buffered() >= len(answer); got++ {
			read()
		}
	}
	w.Flush()
	for ; got < sent; got++ {
		read()
	}
	c.Close()
	s.Stop(context.Background())
	if err := <-ran; err != nil {
		b.Fatal(err)
	}
}
