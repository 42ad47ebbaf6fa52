package metadata

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/quota"
	"github.com/barnabas-log/barnabas/wire"
)

// anyQuota sets or removes a quota of one of a few entities.
func anyQuota(rng *rand.Rand) Record {
	part := func() quota.Part {
		return []quota.Part{{}, quota.Everybody(), quota.Named("a"), quota.Named("b")}[rng.IntN(4)]
	}
	e := quota.Entity{User: part(), Client: part()}
	if rng.IntN(3) == 0 {
		e = quota.Entity{IP: part()}
	}
	var value *float64
	if rng.IntN(3) > 0 {
		value = new(float64(rng.IntN(9)) + 0.5)
	}
	return Record{Message: QuotaRecord(e, fmt.Sprint("key", rng.IntN(2)), value)}
}

func TestQuotas(t *testing.T) {
	user, pair := quota.Entity{User: quota.Named("u")}, quota.Entity{User: quota.Everybody(), Client: quota.Named("c")}
	set := func(e quota.Entity, key string, v float64) Record { return Record{Message: QuotaRecord(e, key, &v)} }
	unset := func(e quota.Entity, key string) Record { return Record{Message: QuotaRecord(e, key, nil)} }
	f := func(name string, want map[string]float64, e quota.Entity, records ...Record) {
		t.Helper()
		if diff := cmp.Diff(want, apply(t, records...).Quota(e)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	f("none", nil, user)
	f("one", map[string]float64{"x": 1}, user, set(user, "x", 1), set(pair, "x", 2))
	f("two", map[string]float64{"x": 3, "y": 2}, user, set(user, "x", 1), set(user, "y", 2), set(user, "x", 3))
	f("removed", map[string]float64{"y": 2}, pair, set(pair, "x", 1), set(pair, "y", 2), unset(pair, "x"), unset(pair, "z"))
	f("all removed", nil, user, set(user, "x", 1), unset(user, "x"))
	f("what was not there", nil, user, unset(user, "x"))
}

// Each kind has its limits; an entity of an address is none of users and
// clients.
func TestLimits(t *testing.T) {
	user := quota.Entity{User: quota.Named("u")}
	i := apply(
		t,
		Record{Message: QuotaRecord(user, quota.Produce.Key(), new(5.0))},
		Record{Message: QuotaRecord(quota.Entity{IP: quota.Named("::1")}, quota.Connection.Key(), new(7.0))},
	)
	for k := range quota.Kind(quota.Kinds) {
		l := i.Limits(k)
		if want := k != quota.Produce && k != quota.Connection; l.None() != want {
			t.Errorf("%s: %v", k.Key(), l.None())
		}
	}
}

// An entity of a kind that we do not know is kept for whoever does.
func TestUnknownEntityIsCarried(t *testing.T) {
	m := wire.NewClientQuotaRecord()
	m.Key, m.Value = "x", 1
	x := wire.Extend(&m.Entity)
	x.EntityType = "planet"
	i := apply(t, Record{Message: m})
	if len(i.others) != 1 {
		t.Errorf("%d carried", len(i.others))
	}
	i.Quotas(func(q *Quota) bool {
		t.Errorf("%+v", q)
		return true
	})
}

// The delta tells that quotas changed, and the image before stays as it was.
func TestQuotaDelta(t *testing.T) {
	e := quota.Entity{Client: quota.Named("c")}
	k := NewTracker(apply(t, Record{Message: QuotaRecord(e, "x", new(1.0))}))
	d, err := k.Apply(10, []Record{{Message: QuotaRecord(e, "x", new(2.0))}})
	if err != nil {
		t.Fatal(err)
	}
	if !d.Quotas || d.From.Quota(e)["x"] != 1 || k.Image().Quota(e)["x"] != 2 {
		t.Errorf("%v: %v, then %v", d.Quotas, d.From.Quota(e), k.Image().Quota(e))
	}
	if d, err = k.Apply(11, []Record{topic("a", 1)}); err != nil || d.Quotas {
		t.Errorf("%v, %v", d, err)
	}
}
