package zmtp

import (
	"bytes"
	"testing"
	"time"
)

// What one message costs from Send to Receive over loopback TCP, with publisher
// and subscriber in this process: 100 bytes, and 57+100 in two frames as a Dafka
// RECORD has. tests/zmtp has the same with libzmq.
func BenchmarkPublish(b *testing.B) {
	one := Message{bytes.Repeat([]byte("m"), 100)}
	two := Message{bytes.Repeat([]byte("m"), 57), bytes.Repeat([]byte("x"), 100)}
	large := Message{bytes.Repeat([]byte("m"), 57), bytes.Repeat([]byte("x"), 1024)}
	huge := Message{bytes.Repeat([]byte("m"), 57), bytes.Repeat([]byte("x"), 64<<10)}
	b.Run("100", func(b *testing.B) { publish(b, one, 64, Options{}) })
	b.Run("57+100", func(b *testing.B) { publish(b, two, 64, Options{}) })
	b.Run("57+1024", func(b *testing.B) { publish(b, large, 64, Options{}) })
	b.Run("57+65536", func(b *testing.B) { publish(b, huge, 64, Options{}) })
	b.Run("100/singly", func(b *testing.B) { publish(b, one, 1, Options{}) })
	b.Run("57+100/hwm=100000", func(b *testing.B) {
		publish(b, two, 64, Options{SendHighWater: 100_000, ReceiveHighWater: 100_000})
	})
	server, client := curvePair()
	b.Run("100/curve", func(b *testing.B) { publishCurve(b, one, server, client) })
	b.Run("57+100/curve", func(b *testing.B) { publishCurve(b, two, server, client) })
}

func publishCurve(b *testing.B, m Message, server, client *Curve) {
	publishTo(b, m, 64, Options{Kind: XPub, Curve: server}, Options{Kind: Sub, Curve: client})
}

func publish(b *testing.B, m Message, batch int, o Options) {
	from, to := o, o
	from.Kind, to.Kind = XPub, Sub
	publishTo(b, m, batch, from, to)
}

func publishTo(b *testing.B, m Message, batch int, from, to Options) {
	pub, sub := open(b, from), open(b, to)
	connect(b, sub, bind(b, pub))
	subscribe(b, sub, "m")
	expectEvents(b, pub, "+m 1")
	b.ReportAllocs()
	b.SetBytes(int64(sizeOf(m)))
	ctx := b.Context()
	done := make(chan error, 1)
	begin := time.Now()
	b.ResetTimer()
	go func() {
		messages := make([]Message, batch)
		for i := range messages {
			messages[i] = m
		}
		for left := b.N; left > 0; left -= batch {
			if _, err := pub.SendWait(ctx, messages[:min(batch, left)]); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for got := 0; got < b.N; {
		r, err := sub.Receive(ctx)
		if err != nil {
			b.Fatal(err)
		}
		got += len(r.Messages)
		r.Release()
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "msg/s")
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
