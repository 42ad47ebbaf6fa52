package broker

import (
	"testing"
	"testing/synctest"

	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/quota"
	"github.com/barnabas-log/barnabas/wire"
)

// Limits change while the broker runs: who is too many then is closed, who
// waited is let in.
func TestConnectionLimitsChange(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.main()
		for range 3 {
			w.dial()
		}
		synctest.Wait() // Until the last one is let in.
		w.set("max.connections=2")
		if n := w.b.doors.mu.open[0].server.Stats().Open.Load(); n != 2 {
			t.Errorf("%d connections are open, at most 2", n)
		}
		w.client = nil // It may be one of those that were closed.
		waiting := make(chan bool)
		c := w.dial()
		go func() { waiting <- c.lives() }()
		synctest.Wait()
		if n := w.b.doors.mu.open[0].server.Stats().Open.Load(); n != 2 {
			t.Errorf("%d connections are open, at most 2", n)
		}
		w.propose(metadata.ConfigRecord(metadata.Resource{Type: metadata.ResourceBroker}, "max.connections", new("10")))
		if !<-waiting {
			t.Error("who waited was not let in")
		}
	})
}

// propose changes the cluster, whatever the API would say.
func (w *world) propose(m wire.MetadataRecord) {
	w.t.Helper()
	err := w.b.quorum.Propose(w.t.Context(), func(*metadata.Image) ([]metadata.Record, error) { return []metadata.Record{{Message: m}}, nil })
	if err != nil {
		w.t.Fatal(err)
	}
}

// A quota of an address bounds how often it connects, and of no other one.
func TestAddressQuota(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		limit := func(p quota.Part, v float64) {
			t.Helper()
			w.propose(metadata.QuotaRecord(quota.Entity{IP: p}, quota.Connection.Key(), &v))
		}
		limit(quota.Named("10.0.0.7"), 1)
		limit(quota.Everybody(), 2)
		limit(quota.Named("::ffff:10.0.0.9"), 3)
		for ip, want := range map[string]int{"10.0.0.7": 10, "10.0.0.8": 20, "10.0.0.9": 30} {
			n := 0
			for w.dialFrom(ip, home).lives() {
				n++
			}
			if n != want {
				t.Errorf("%s: %d served before the first was turned away, want %d", ip, n, want)
			}
		}
	})
}
