package broker

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/wire"
)

// served is how many of some connections are answered, from each of addresses
// one after the other and all kept open.
func (w *world) served(n int, addresses ...string) (served int) {
	w.t.Helper()
	var all []*client
	for range n {
		for _, ip := range addresses {
			all = append(all, w.dialFrom(ip, home))
		}
	}
	for _, c := range all {
		if c.lives() {
			served++
		}
	}
	return served
}

func TestConnectionSettings(t *testing.T) {
	decidesBroker(t, "connections.max.idle.ms=5000", true, false, func(w *world) bool {
		c := w.dial()
		alive := c.lives()
		time.Sleep(time.Minute)
		return alive && c.lives()
	})
	four := func(w *world) int {
		w.hangUp()
		return w.served(2, "10.0.0.1", "10.0.0.2")
	}
	decidesBroker(t, "max.connections=3", 4, 3, four)
	decidesBroker(t, "listener.name.plaintext.max.connections=3", 4, 3, four)
	decidesBroker(t, "max.connections.per.ip=1", 4, 2, four)
	decidesBroker(t, "max.connections.per.ip.overrides=10.0.0.2:1", 4, 3, four)
	rate := func(w *world) bool {
		w.hangUp()
		began := time.Now()
		w.served(30, local)
		return time.Since(began) > 15*time.Second
	}
	decidesBroker(t, "max.connection.creation.rate=1", false, true, rate)
	decidesBroker(t, "listener.name.plaintext.max.connection.creation.rate=1", false, true, rate)
	// More samples let more connections come at once.
	decidesBroker(t, "quota.window.num=31", true, false, rate, "max.connection.creation.rate=1")
	decidesBroker(t, "quota.window.size.seconds=31", true, false, rate, "max.connection.creation.rate=1")
}

// hangUp ends the connection of main.
func (w *world) hangUp() {
	if w.client != nil {
		w.client.conn.Close()
	}
	w.client = nil
	time.Sleep(time.Minute) // What the rate of connections remembers.
}

func TestQuotaWindowSettings(t *testing.T) {
	// How many topics may be made at once when one a second is allowed.
	made := func(w *world) (n int) {
		q := wire.NewAlterClientQuotasRequest()
		q.Entries = []wire.AlterClientQuotasRequestEntryData{{
			Entity: []wire.AlterClientQuotasRequestEntityData{{EntityType: "client-id"}},
			Ops:    []wire.AlterClientQuotasRequestOpData{{Key: "controller_mutation_rate", Value: 1}},
		}}
		for _, e := range ask[*wire.AlterClientQuotasResponse](w.main(), q).Entries {
			if e.ErrorCode != 0 {
				t.Fatal(*e.ErrorMessage)
			}
		}
		for n = 0; n < 100; n++ {
			q := wire.NewCreateTopicsRequest()
			q.Topics = []wire.CreateTopicsRequestCreatableTopic{{Name: fmt.Sprint("t", n), NumPartitions: 1, ReplicationFactor: 1}}
			if ask[*wire.CreateTopicsResponse](w.main(), q).Topics[0].ErrorCode != 0 {
				break
			}
		}
		return n
	}
	decidesBroker(t, "controller.quota.window.num=3", 12, 4, made)
	decidesBroker(t, "controller.quota.window.size.seconds=2", 12, 23, made)
}

func TestTelemetrySettings(t *testing.T) {
	decidesBroker(t, "telemetry.max.bytes=1000", int16(0), int16(wire.TelemetryTooLarge), func(w *world) int16 {
		get := ask[*wire.GetTelemetrySubscriptionsResponse](w.main(), wire.NewGetTelemetrySubscriptionsRequest())
		q := wire.NewPushTelemetryRequest()
		q.ClientInstanceID, q.SubscriptionID = get.ClientInstanceID, get.SubscriptionID
		q.Metrics = append([]byte{15<<3 | 2, 998&127 | 128, 998 >> 7}, make([]byte, 998)...) // A field that nobody knows.
		q.Terminating = true                                                                 // Or it would be too early.
		return ask[*wire.PushTelemetryResponse](w.main(), q).ErrorCode
	})
}

// subscribe makes a subscription to client metrics.
func (w *world) subscribe(name string, settings ...string) {
	w.alter(ofClientMetrics, name, settings...)
}

// TestSubscriptions: clients are asked for what subscriptions say.
func TestSubscriptions(t *testing.T) {
	f := func(every int32, metrics string, settings ...string) {
		t.Helper()
		inWorld(t, nil, func(w *world) {
			w.subscribe("s", settings...)
			got := ask[*wire.GetTelemetrySubscriptionsResponse](w.main(), wire.NewGetTelemetrySubscriptionsRequest())
			if got.PushIntervalMs != every || fmt.Sprint(got.RequestedMetrics) != metrics {
				t.Errorf("%v: each %d ms %v", settings, got.PushIntervalMs, got.RequestedMetrics)
			}
		})
	}
	f(300000, "[org.apache.]", "metrics=org.apache.")
	f(60000, "[org.apache.]", "metrics=org.apache.", "interval.ms=60000")
	f(60000, "[org.apache.]", "metrics=org.apache.", "interval.ms= 60000 ")
	f(300000, "[org.apache.]", "metrics=org.apache.", "match=client_id=test")
	f(300000, "[org.apache.]", "metrics=org.apache.", "match=client_id = te.*=") // As Java splits it.
	f(300000, "[]", "metrics=org.apache.", "match=client_id=other")
}

func TestListenerSettings(t *testing.T) {
	told := func(w *world, at string) string {
		c := w.dialFrom(local, at)
		b := ask[*wire.MetadataResponse](c, wire.NewMetadataRequest()).Brokers[0]
		return fmt.Sprint(b.Host, ":", b.Port)
	}
	two := []string{
		"listeners=IN://127.0.0.1:1111,OUT://127.0.0.1:2222", "listener.security.protocol.map=IN:PLAINTEXT,OUT:PLAINTEXT",
		"inter.broker.listener.name=IN",
	}
	inWorld(t, append(two, "advertised.listeners=IN://in.example:1,OUT://out.example:2"), func(w *world) {
		if in, out := told(w, "127.0.0.1:1111"), told(w, "127.0.0.1:2222"); in != "in.example:1" || out != "out.example:2" {
			t.Error(in, out)
		}
	})
	_, _, err := config.Load(config.Sources{Options: append(two, "listener.security.protocol.map=IN:PLAINTEXT")})
	if err == nil || !strings.Contains(err.Error(), "OUT") {
		t.Errorf("a listener without a protocol: %v", err)
	}
	_, _, err = config.Load(config.Sources{Options: append(two, "listener.security.protocol.map=IN:PLAINTEXT,OUT:SSL")})
	if err == nil || !strings.Contains(err.Error(), "SSL") {
		t.Errorf("a protocol that is not there: %v", err)
	}
}

// TestListenersChange: listeners come and go while the node runs, and what is
// set survives; what cannot be opened does no harm.
func TestListenersChange(t *testing.T) {
	at := func(w *world, address string) string {
		w.mu.Lock()
		l := w.mu.listeners[address]
		w.mu.Unlock()
		switch {
		case l == nil:
			return "absent"
		case !w.dialFrom(local, address).lives():
			return "closed"
		}
		return "open"
	}
	inWorld(t, []string{"inter.broker.listener.name=PLAINTEXT"}, func(w *world) {
		f := func(when, home, added string) {
			t.Helper()
			synctest.Wait()
			if is := at(w, "127.0.0.1:9092"); is != home {
				t.Errorf("%s: the first listener is %s, want %s", when, is, home)
			}
			if is := at(w, "127.0.0.1:1234"); is != added {
				t.Errorf("%s: the other listener is %s, want %s", when, is, added)
			}
		}
		f("at first", "open", "absent")
		w.alter(ofBroker, "1", "listeners=PLAINTEXT://127.0.0.1:9092,NEW://127.0.0.1:1234,BAD://127.0.0.1:6666",
			"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,NEW:PLAINTEXT,BAD:PLAINTEXT")
		f("added", "open", "open")
		c := w.dialFrom(local, "127.0.0.1:1234")
		if b := ask[*wire.MetadataResponse](c, wire.NewMetadataRequest()).Brokers[0]; b.Port != 1234 {
			t.Errorf("told to go to port %d", b.Port)
		}
		w.restart()
		f("started anew", "open", "open")
		c = w.dialFrom(local, "127.0.0.1:1234")
		w.setFor("1", "listeners=PLAINTEXT://127.0.0.1:9092")
		f("taken away", "open", "closed")
		if c.lives() {
			t.Error("a connection to a closed listener lives")
		}
		w.setFor("1", "listeners=PLAINTEXT://127.0.0.1:6666")
		w.restart()
		f("moved to where it cannot be", "open", "absent")
	})
}
