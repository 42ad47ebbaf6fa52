package telemetry

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/model"
)

var begin = time.Unix(1_700_000_000, 0)

func subscription(t *testing.T, name string, configs ...string) *Subscription {
	t.Helper()
	m := map[string]string{}
	for i := 0; i < len(configs); i += 2 {
		m[configs[i]] = configs[i+1]
	}
	s, err := ParseSubscription(name, m)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSelectors(t *testing.T) {
	i := &Identity{Instance: "id", ClientID: "c-1", Software: "apache-kafka-java", Version: "4.4.0", Address: "10.0.0.1", Port: "99"}
	f := func(match string, want bool) {
		t.Helper()
		if got := subscription(t, "s", "match", match).matches(i); got != want {
			t.Errorf("%q: %v", match, got)
		}
	}
	f("", true)
	f("client_id=c-1", true)
	f("client_id=c", false)
	f("client_id=c-.*", true)
	f(" client_software_name = apache-.* , client_software_version=4\\..*", true)
	f("client_software_name=apache-.*,client_software_version=3\\..*", false)
	f("client_source_address=10\\.0\\.0\\.1,client_source_port=99,client_instance_id=id", true)
	f("client_id=c-1|other", true)
	if subscription(t, "s", "match", "client_id=.*").matches(&Identity{}) {
		t.Error("nothing matches a pattern")
	}
	for _, bad := range []string{"client_id", "planet=x", "client_id=("} {
		if _, err := ParseSubscription("s", map[string]string{"match": bad}); err == nil {
			t.Errorf("%q is a selector", bad)
		}
	}
	if _, err := ParseSubscription("s", map[string]string{"interval.ms": "soon"}); err == nil {
		t.Error("an interval of soon")
	}
}

// A client is asked for what all its subscriptions want together.
func TestWanted(t *testing.T) {
	f := func(want []string, interval time.Duration, all ...*Subscription) {
		t.Helper()
		c := NewClients(1 << 20)
		c.SetSubscriptions(all)
		got, err := c.Get(begin, model.UUID{1}, Identity{ClientID: "c"})
		if err != nil || !cmp.Equal(want, got.Metrics) || got.Interval != interval {
			t.Errorf("%v, %v, %v", got, interval, err)
		}
	}
	f(nil, DefaultInterval)
	f([]string{"a.", "b."}, time.Second, subscription(t, "1", "metrics", "b.,a.", "interval.ms", "1000"), subscription(t, "2", "metrics", "a."))
	f([]string{"*"}, DefaultInterval, subscription(t, "1", "metrics", "b."), subscription(t, "2", "metrics", "*"))
	f(nil, DefaultInterval, subscription(t, "1", "metrics", "b.", "match", "client_id=d", "interval.ms", "1000"))
}

// The number of a subscription is Kafka's, as its own classes gave it.
func TestSubscriptionID(t *testing.T) {
	f := func(instance string, interval time.Duration, want int32, metrics ...string) {
		t.Helper()
		id, err := model.ParseUUID(instance)
		if err != nil {
			t.Fatal(err)
		}
		if got := subscriptionID(id, &wanted{metrics, interval}); got != want {
			t.Errorf("%s %v: %d, want %d", instance, metrics, got, want)
		}
	}
	f("AAAAAAAAAAEAAAAAAAAAAg", time.Minute, 8205840, "*")
	f("AAAAAAAAAAEAAAAAAAAAAg", DefaultInterval, -725132323)
	f("7Zx3k1qVTSuPq0bXlqU1Ew", 200*time.Millisecond, -1424951771, "org.apache.kafka.producer.")
}

// script plays one client's requests.
type script struct {
	t   *testing.T
	c   *Clients
	id  model.UUID
	now time.Time
	sub int32
}

func (s *script) get(after time.Duration, want error) {
	s.t.Helper()
	s.now = s.now.Add(after)
	w, err := s.c.Get(s.now, s.id, Identity{ClientID: "c"})
	if !errors.Is(err, want) {
		s.t.Errorf("get after %v: %v, want %v", after, err, want)
	}
	if err == nil {
		s.sub = w.Subscription
	}
}

func (s *script) push(after time.Duration, want error, change func(*Push)) {
	s.t.Helper()
	s.now = s.now.Add(after)
	p := Push{Subscription: s.sub, Codec: 4, Bytes: 10}
	if change != nil {
		change(&p)
	}
	if _, err := s.c.Push(s.now, s.id, Identity{ClientID: "c"}, p); !errors.Is(err, want) {
		s.t.Errorf("push after %v: %v, want %v", after, err, want)
	}
}

func TestPushes(t *testing.T) {
	f := func(name string, play func(*script)) {
		t.Helper()
		c := NewClients(100)
		c.SetSubscriptions([]*Subscription{subscription(t, "s", "metrics", "a.", "interval.ms", "1000")})
		play(&script{t: t, c: c, id: model.UUID{1}, now: begin})
	}
	last := func(p *Push) { p.Last = true }
	f("in order", func(s *script) {
		s.get(0, nil)
		s.push(time.Millisecond, nil, nil)
		s.push(999*time.Millisecond, ErrThrottled, nil)
		s.push(time.Millisecond, nil, nil)
		s.push(time.Minute/2, nil, nil)
	})
	f("get too often", func(s *script) {
		s.get(0, nil)
		s.get(999*time.Millisecond, ErrThrottled)
		s.get(time.Millisecond, nil)
		s.push(0, nil, nil)
		s.get(time.Millisecond, ErrThrottled)
	})
	f("limits", func(s *script) {
		s.get(0, nil)
		s.push(time.Second, ErrUnknown, func(p *Push) { p.Subscription++ })
		s.push(time.Second, ErrCompression, func(p *Push) { p.Codec = 5 })
		s.push(time.Second, ErrCompression, func(p *Push) { p.Codec = -1 })
		s.push(time.Second, ErrTooLarge, func(p *Push) { p.Bytes = 101 })
		s.push(time.Second, nil, func(p *Push) { p.Bytes = 100 })
	})
	f("the last push comes early and ends it", func(s *script) {
		s.get(0, nil)
		s.push(time.Millisecond, nil, nil)
		s.push(time.Millisecond, nil, last)
		s.push(time.Second, ErrAfterEnd, nil)
	})
	f("new subscriptions are told at once", func(s *script) {
		s.get(0, nil)
		old := s.sub
		s.c.SetSubscriptions([]*Subscription{subscription(t, "s", "metrics", "b.")})
		s.push(time.Millisecond, ErrUnknown, nil)
		s.get(time.Millisecond, nil) // It asks because its push was refused.
		s.get(time.Millisecond, ErrThrottled)
		s.c.SetSubscriptions([]*Subscription{subscription(t, "s", "metrics", "c.")})
		s.get(time.Millisecond, nil)
		if s.sub == old {
			t.Error("the subscription has its old number")
		}
	})
	f("reserved instances", func(s *script) {
		for _, id := range []model.UUID{{}, {15: 1}} {
			s.id = id
			s.push(0, ErrBadInstances, nil)
		}
	})
	f("without a get", func(s *script) { s.push(0, ErrUnknown, nil) })
}

// A push tells which metrics were asked for.
func TestOnlyWhatWasAskedFor(t *testing.T) {
	c := NewClients(100)
	c.SetSubscriptions([]*Subscription{subscription(t, "s", "metrics", "a.b,c")})
	w, err := c.Get(begin, model.UUID{1}, Identity{})
	if err != nil {
		t.Fatal(err)
	}
	has, err := c.Push(begin, model.UUID{1}, Identity{}, Push{Subscription: w.Subscription})
	if err != nil || !has("a.b.c") || has("a.a") || !has("cat") {
		t.Errorf("%v", err)
	}
}

// Instances are bounded; who is silent for three intervals, or whose connection
// ends, is forgotten.
func TestInstancesAreBounded(t *testing.T) {
	c := NewClients(100)
	now := begin
	for i := range 2 * maxClients {
		id := model.UUID{byte(i), byte(i >> 8), byte(i >> 16), 1}
		if _, err := c.Get(now, id, Identity{}); err != nil {
			t.Fatal(err)
		}
	}
	if c.Len() != maxClients || c.Known(model.UUID{0, 0, 0, 1}) {
		t.Errorf("%d instances", c.Len())
	}
	if _, err := c.Get(now.Add(3*DefaultInterval), model.UUID{9}, Identity{}); err != nil || c.Len() != 1 {
		t.Errorf("%d instances after 15 minutes, %v", c.Len(), err)
	}
	c.Forget(model.UUID{9})
	c.Forget(model.UUID{9})
	if c.Len() != 0 {
		t.Errorf("%d instances", c.Len())
	}
}

func TestTotals(t *testing.T) {
	all := NewTotals()
	a, b := &Identity{Software: "java", Version: "1"}, &Identity{Software: "librdkafka", Version: "2"}
	now := begin
	add := func(who *Identity, p Point) { all.Add(now, who, p) }
	add(a, Point{"sent", Delta, 3, 0})
	add(a, Point{"sent", Delta, 4, 0})
	add(b, Point{"sent", Delta, 5, 0})
	add(a, Point{"queue", Value, 7, 0})
	add(a, Point{"queue", Value, -1, 0})
	add(a, Point{"never", Value, -1, 0})
	add(a, Point{"wait", Distribution, -1, 10})
	add(a, Point{"wait", Distribution, 2.5, 10})
	add(a, Point{"both", Distribution, 2, 10})
	add(a, Point{"both", Value, 3, 0})
	add(a, Point{"both", Delta, 4, 0})
	add(&Identity{Software: string(make([]byte, 100))}, Point{"sent", Delta, 1, 0})
	for _, bad := range []Point{
		{"sent", Delta, math.NaN(), 0},
		{"sent", Delta, math.Inf(1), 0},
		{"sent", Value, -1e19, 0},
		{"sent", Delta, -1, 0},
		{"wait", Distribution, 1, 1 << 63},
		{"", Value, 1, 0},
		{"a b", Value, 1, 0},
		{"\xff", Value, 1, 0},
		{string(make([]byte, 500)), Value, 1, 0},
	} {
		add(a, bad)
	}
	want := []Total{
		{"both", "java", "1", Value, 5, 11, 3}, // One series of sums and counts, whoever calls it what.
		{"both", "java", "1", Delta, 4, 1, 4},
		{"queue", "java", "1", Value, 7, 1, 7},
		{"sent", "java", "1", Delta, 7, 2, 4},
		{"sent", "librdkafka", "2", Delta, 5, 1, 5},
		{"sent", "other", "other", Delta, 1, 1, 1},
		{"wait", "java", "1", Distribution, 2.5, 10, 0},
	}
	if d := cmp.Diff(want, all.All(now)); d != "" || all.Dropped != 9 {
		t.Errorf("%d dropped, %s", all.Dropped, d)
	}
	if left := all.All(now.Add(idleSeries + 1)); len(left) != 0 {
		t.Errorf("%d series that nobody pushes", len(left))
	}
}

// The greatest value is that of the last minutes, not of all times.
func TestGreatest(t *testing.T) {
	all, who := NewTotals(), &Identity{Software: "java", Version: "1"}
	f := func(after time.Duration, v, want float64) {
		t.Helper()
		now := begin.Add(after)
		all.Add(now, who, Point{"queue", Value, v, 0})
		if got := all.All(now)[0].Max; got != want {
			t.Errorf("after %v: %v, want %v", after, got, want)
		}
	}
	f(0, 10, 10)
	f(time.Minute, 3, 10)
	f(maxWindow, 2, 10)
	f(2*maxWindow, 1, 2)
	f(2*maxWindow+time.Minute, 4, 4)
	f(9*maxWindow, 0, 0)
}

// However many names, programs and clients there are, memory is bounded, and
// what was there first goes on being counted.
func TestTotalsAreBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	all := NewTotals()
	first := &Identity{Software: "java", Version: "1"}
	all.Add(begin, first, Point{"first", Delta, 1, 0})
	for i := range 20_000 {
		who := &Identity{Software: fmt.Sprint("s", rng.IntN(1000)), Version: fmt.Sprint(i)}
		all.Add(begin, who, Point{fmt.Sprint("m", rng.IntN(5000)), Value, 1, 0})
	}
	all.Add(begin, first, Point{"first", Delta, 1, 0})
	if len(all.series) > maxSeries || len(all.software) > maxSoftware {
		t.Errorf("%d series of %d programs", len(all.series), len(all.software))
	}
	found := false
	for _, x := range all.All(begin) {
		found = found || x == Total{"first", "java", "1", Delta, 2, 2, 1}
	}
	if !found || all.Dropped == 0 {
		t.Errorf("the first was forgotten, or nothing dropped: %d", all.Dropped)
	}
	dropped := all.Dropped
	all.Add(begin.Add(idleSeries+time.Second), &Identity{Software: "new", Version: "1"}, Point{"new", Value, 1, 0})
	if all.Dropped != dropped || len(all.series) != 1 {
		t.Errorf("idle series leave no room: %d", len(all.series))
	}
}
