package wire_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/barnabas-log/barnabas/wire"
	"github.com/barnabas-log/barnabas/wire/wiretest"
)

// Every message in every version, filled at random, must come back as it was,
// also when it is read into a struct that holds another one.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	names := wire.MessageNames()
	if len(names) < 270 {
		t.Fatalf("%d messages only", len(names))
	}
	for _, name := range names {
		reused := wire.NewMessage(name)
		lowest, highest := wiretest.Versions(reused)
		for version := lowest; version <= highest; version++ {
			for range 8 {
				m := wire.NewMessage(name)
				wiretest.Fill(rng, m, version)
				roundTrip(t, name, m, reused, version)
			}
		}
	}
}

func roundTrip(t *testing.T, name string, m, reused wire.Message, version int16) {
	t.Helper()
	b, err := m.AppendTo([]byte("before"), version)
	if err != nil {
		t.Fatalf("%s %d: %v", name, version, err)
	}
	b = b[len("before"):]
	fresh := wire.NewMessage(name)
	for _, into := range []wire.Message{fresh, reused} {
		r := wire.NewReader(b)
		if err := wire.ReadExactly(r, into, version); err != nil {
			t.Fatalf("%s %d: %v\n%x", name, version, err, b)
		}
		again, err := into.AppendTo(nil, version)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%s %d: wrote\n%x, read it and wrote\n%x, %v", name, version, b, again, err)
		}
	}
	if d := cmp.Diff(fresh, reused, cmpopts.EquateEmpty()); d != "" {
		t.Fatalf("%s %d: a used struct differs after reading (-fresh +used):\n%s", name, version, d)
	}
	// Any shorter frame is malformed, unless it ends where nothing is missing:
	// never, as the last byte belongs to something.
	for n := range b[:min(len(b), 64)] {
		if wire.ReadExactly(wire.NewReader(b[:n]), fresh, version) == nil {
			t.Fatalf("%s %d: %d of %d bytes are accepted", name, version, n, len(b))
		}
	}
}
