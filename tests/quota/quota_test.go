package quota

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/tests/node"
	"github.com/barnabas-log/barnabas/wire"
)

func TestMain(m *testing.M) { node.Main(m) }

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// measured is how long something is measured: 30 seconds in CI and in long runs, a few otherwise.
func measured(short int) time.Duration {
	if os.Getenv("CI") == "true" || os.Getenv("BARNABAS_ROUNDS") != "" {
		return seconds(30)
	}
	return seconds(short)
}

const (
	rate  = 1 << 20   // Bytes per second that a quota allows.
	piece = 100 << 10 // Bytes of a request.
)

// within fails unless a rate is what is allowed, within a share. More than that fails at once; less may be a machine that is busy
// with something else, so it is measured again.
func within(t *testing.T, what string, allowed, share float64, measure func() float64) {
	t.Helper()
	const tries = 3
	for range tries {
		got := measure()
		t.Logf("%s: %.3g a second, allowed %.3g: %.3f", what, got, allowed, got/allowed)
		switch {
		case got > allowed*(1+share):
			t.Errorf("%s: %.3g a second, allowed %.3g", what, got, allowed)
			return
		case got >= allowed*(1-share):
			return
		}
	}
	t.Errorf("%s: less than is allowed, %d times", what, tries)
}

// smooth are windows that let a client have one second's worth at once. With Kafka's default of ten it may write for a second what
// it is allowed in ten, and then waits: its mean over half a minute says more of when one looks than of the quota.
const smooth = "quota.window.num=2"

// A producer with a quota gets what it is allowed, though it never waits by itself and has several requests in flight. Another
// one does not notice.
func TestProduce(t *testing.T) {
	n := node.Start(t, smooth)
	topic(t, n, "t")
	limit(t, n, "limited", "producer_byte_rate", rate)
	stop := make(chan struct{})
	other := watch(t, n, stop)
	began := time.Now()
	within(t, "bytes written", rate, 0.1, func() float64 { return produceFor(t, n, measured(6)) })
	close(stop)
	o, took := <-other, time.Since(began)
	t.Logf("another client: %d answers, the slowest after %v", o.answers, o.slowest)
	if o.answers < int(took.Seconds()*20) || o.slowest > 5*time.Second || o.throttled > 0 {
		t.Errorf("another client noticed: %+v in %v", o, took)
	}
}

// noticed is what a client without a quota meets while another one has one.
type noticed struct {
	answers, throttled int
	slowest            time.Duration
}

// watch writes a little, all the time.
func watch(t *testing.T, n *node.Node, stop <-chan struct{}) <-chan noticed {
	t.Helper()
	c, q := dial(t, n, "other"), produce(t, "t", 1000)
	out := make(chan noticed, 1)
	go func() {
		var o noticed
		defer func() { out <- o }()
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			began := time.Now()
			if r := ask[*wire.ProduceResponse](c, q, 9); r.ThrottleTimeMs != 0 {
				o.throttled++
			}
			o.slowest = max(o.slowest, time.Since(began))
			o.answers++
		}
	}()
	return out
}

// produceFor writes as much as it can for a while, and returns how many bytes a second that was.
func produceFor(t *testing.T, n *node.Node, d time.Duration) float64 {
	t.Helper()
	c := dial(t, n, "limited")
	q := produce(t, "t", piece)
	const inFlight = 4
	bytes, throttled := 0, 0
	began := time.Now()
	for range inFlight {
		c.write(q, 9)
	}
	for time.Since(began) < d {
		r := read[*wire.ProduceResponse](c, q, 9)
		if e := wire.ErrorCode(r.Responses[0].PartitionResponses[0].ErrorCode); e != wire.None {
			t.Fatal(e)
		}
		if bytes += piece; r.ThrottleTimeMs > 0 {
			throttled++
		}
		c.write(q, 9)
	}
	if throttled == 0 {
		t.Error("never told to wait")
	}
	return float64(bytes) / time.Since(began).Seconds()
}

// A consumer with a quota gets what it is allowed, and empty answers when it is too early.
func TestConsume(t *testing.T) {
	n := node.Start(t, "quota.window.num=4")
	topic(t, n, "t")
	c := dial(t, n, "setup")
	for range 30 {
		if r := ask[*wire.ProduceResponse](c, produce(t, "t", 9*piece), 9); r.Responses[0].PartitionResponses[0].ErrorCode != 0 {
			t.Fatal(wire.ErrorCode(r.Responses[0].PartitionResponses[0].ErrorCode))
		}
	}
	const allowed = 4 * rate
	limit(t, n, "limited", "consumer_byte_rate", allowed)
	within(t, "bytes read", allowed, 0.2, func() float64 { return fetchFor(t, n, measured(8)) })
	other := dial(t, n, "other")
	if r := ask[*wire.FetchResponse](other, fetch("t", 1), 11); r.ThrottleTimeMs != 0 || len(r.Responses) == 0 {
		t.Errorf("another client is told to wait %d ms", r.ThrottleTimeMs)
	}
}

// fetchFor reads as much as it can for a while, and returns how many bytes a second that was.
func fetchFor(t *testing.T, n *node.Node, d time.Duration) float64 {
	t.Helper()
	c := dial(t, n, "limited")
	bytes, empty := 0, 0
	began := time.Now()
	for time.Since(began) < d {
		r := ask[*wire.FetchResponse](c, fetch("t", 1), 11)
		if r.ErrorCode != 0 || (r.ThrottleTimeMs > 0) != (len(r.Responses) == 0) {
			t.Fatalf("%v, throttled %d ms, %d topics", wire.ErrorCode(r.ErrorCode), r.ThrottleTimeMs, len(r.Responses))
		}
		if r.ThrottleTimeMs > 0 {
			empty++
			continue
		}
		bytes += len(r.Responses[0].Partitions[0].Records)
	}
	if empty == 0 {
		t.Error("never told to wait")
	}
	return float64(bytes) / time.Since(began).Seconds()
}

// The share of the broker's time that a client may have is what it gets, by the broker's own count.
func TestRequestPercentage(t *testing.T) {
	if node.Peer() {
		t.Skip("Kafka does not tell the time by the same name")
	}
	port := freePort(t)
	n := node.Start(t, smooth, "http.listen="+port)
	topic(t, n, "t")
	const percent = 2
	limit(t, n, "limited", "request_percentage", percent)
	q := wire.NewListOffsetsRequest() // Nobody else sends it.
	q.ReplicaID = -1
	x := wire.Extend(&q.Topics)
	x.Name = "t"
	for range 3000 {
		p := wire.Extend(&x.Partitions)
		p.PartitionIndex, p.Timestamp, p.CurrentLeaderEpoch = 7, -1, -1
	}
	c := dial(t, n, "limited")
	work := func() float64 { return metric(t, port, `barnabas_api_request_work_seconds_sum{api="ListOffsets"}`) }
	within(t, "percent of a core", percent, 0.3, func() float64 {
		throttled := 0
		began, before := time.Now(), work()
		for end := began.Add(measured(8)); time.Now().Before(end); {
			if ask[*wire.ListOffsetsResponse](c, q, 7).ThrottleTimeMs > 0 {
				throttled++
			}
		}
		if throttled == 0 {
			t.Error("never told to wait")
		}
		return 100 * (work() - before) / time.Since(began).Seconds()
	})
}

// An address that connects faster than its quota is turned away, after a while; what is let in works.
func TestConnectionRate(t *testing.T) {
	n := node.Start(t, "quota.window.num=3")
	q := wire.NewAlterClientQuotasRequest()
	e := wire.Extend(&q.Entries)
	e.Entity = []wire.AlterClientQuotasRequestEntityData{{EntityType: "ip", EntityName: new("127.0.0.1")}}
	e.Ops = []wire.AlterClientQuotasRequestOpData{{Key: "connection_creation_rate", Value: 20}}
	alter(t, n, q)
	began := time.Now()
	served, refused := 0, 0
	var longest time.Duration
	for time.Since(began) < seconds(6) {
		tried := time.Now()
		if served++; !works(t, n) {
			served--
			refused++
			longest = max(longest, time.Since(tried))
		}
	}
	rate := float64(served) / time.Since(began).Seconds()
	t.Logf("%d served, %.1f a second, %d turned away, the longest after %v", served, rate, refused, longest)
	if rate > 30 || rate < 10 || refused == 0 || longest > 3*time.Second {
		t.Errorf("20 connections a second allowed: %.1f", rate)
	}
}

// works reports whether a new connection is answered.
func works(t *testing.T, n *node.Node) bool {
	t.Helper()
	conn, err := net.DialTimeout("tcp", n.Addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	frame, err := wire.AppendRequest(nil, wire.RequestHeader{CorrelationID: 1}, wire.NewApiVersionsRequest())
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(frame); err != nil {
		return false
	}
	_, err = conn.Read(make([]byte, 10))
	return err == nil
}
