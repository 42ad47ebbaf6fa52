package zmtp

import (
	"fmt"
	"testing"

	"github.com/barnabas-log/barnabas/internal/zmtp"
)

// Messages per second from publisher to subscriber over loopback TCP, none of them
// dropped: libzmq alone, ours with libzmq, ours alone; processes of their own but
// for ours. One frame of 100 bytes, and 57+100 as a Dafka RECORD has.
func BenchmarkThroughput(b *testing.B) {
	for _, frames := range [][2]int{{100, -1}, {57, 100}} {
		for _, from := range []string{"libzmq", "ours"} {
			for _, to := range []string{"libzmq", "ours"} {
				b.Run(fmt.Sprintf("%v/%s to %s", frames, from, to), func(b *testing.B) {
					throughput(b, frames, from == "ours", to == "ours")
				})
			}
		}
	}
}

func throughput(b *testing.B, frames [2]int, fromUs, toUs bool) {
	endpoint, publish := publisher(b, frames, fromUs)
	receive := subscriber(b, endpoint, toUs)
	publish(0)
	b.ResetTimer()
	received := make(chan struct{})
	go func() {
		defer close(received)
		receive()
	}()
	publish(b.N)
	<-received
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// publisher makes what sends: called with 0, it waits for a subscription.
func publisher(b *testing.B, frames [2]int, us bool) (endpoint string, publish func(count int)) {
	if !us {
		p := start(b, "XPUB", zmqXPubNoDrop, 1)
		return p.bind(), func(count int) {
			if count == 0 {
				p.expect("\x01a")
				return
			}
			p.do(fmt.Sprintf("flood %d %d %d %s", count, frames[0], frames[1], inHex("a")))
		}
	}
	s := ours(b, zmtp.Options{Kind: zmtp.XPub})
	return bind(b, s), func(count int) {
		if count == 0 {
			events(b, s, "+a 1")
			return
		}
		m := zmtp.Message{numbered("a", 0)[:frames[0]]}
		if frames[1] >= 0 {
			m = append(m, make([]byte, frames[1]))
		}
		batch := make([]zmtp.Message, 64)
		for i := range batch {
			batch[i] = m
		}
		for n := 0; n < count-1; n += len(batch) {
			if _, err := s.SendWait(b.Context(), batch[:min(len(batch), count-1-n)]); err != nil {
				b.Error(err)
			}
		}
		last := zmtp.Message{numbered("a", 1<<40)[:frames[0]]}
		if _, err := s.SendWait(b.Context(), []zmtp.Message{append(last, m[1:]...)}); err != nil {
			b.Error(err)
		}
	}
}

// subscriber makes what receives b.N messages.
func subscriber(b *testing.B, endpoint string, us bool) (receiveAll func()) {
	if !us {
		p := start(b, "SUB")
		p.subscribe("a")
		p.do("connect " + endpoint)
		return func() { p.do(fmt.Sprintf("count %d 1", b.N-1)) }
	}
	s := ours(b, zmtp.Options{Kind: zmtp.Sub})
	subscribe(b, s, "a")
	connect(b, s, endpoint)
	return func() {
		for got := 0; got < b.N; {
			batch, err := s.Receive(b.Context())
			if err != nil {
				b.Error(err)
				return
			}
			got += len(batch.Messages)
			batch.Release()
		}
	}
}
