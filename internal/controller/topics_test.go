package controller

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
)

// cluster is an image that changes by what the rules decide.
type cluster struct {
	t     *testing.T
	track *metadata.Tracker
	rules Rules
}

func newCluster(t *testing.T, brokers ...model.NodeID) *cluster {
	t.Helper()
	b, _, err := config.Load(config.Sources{Options: []string{"node.id=1", "num.partitions=3"}, MemoryBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, track: metadata.NewTracker(metadata.Empty()), rules: Rules{
		Config: b, Random: rand.NewChaCha8([32]byte{}), Place: func(model.Partition) model.UUID { return model.UUID{7} },
	}}
	c.apply(Format())
	for _, id := range brokers {
		records, err := Register(c.track.Image(), metadata.Broker{ID: id, Directories: []model.UUID{{7}}}, c.rules.Random)
		if err != nil {
			t.Fatal(err)
		}
		c.apply(records)
	}
	return c
}

func (c *cluster) apply(records []metadata.Record) {
	c.t.Helper()
	if _, err := c.track.Apply(c.track.Image().End(), records); err != nil {
		c.t.Fatal(err)
	}
}

// create makes topics and returns what became of them.
func (c *cluster) create(specs ...TopicSpec) []TopicCreated {
	c.t.Helper()
	records, created, err := c.rules.CreateTopics(c.track.Image(), specs)
	if err != nil {
		c.t.Fatal(err)
	}
	c.apply(records)
	return created
}

func named(name string) TopicSpec { return TopicSpec{Name: name, Partitions: 1, Replication: 1} }

func TestNames(t *testing.T) {
	f := func(name string, ok bool) {
		t.Helper()
		err := CheckName(name)
		if ok != (err == nil) || err != nil && (!errors.Is(err, ErrInvalidName) || !strings.HasPrefix(err.Error(), "Topic name is invalid: ")) {
			t.Errorf("%q: %v", name, err)
		}
	}
	f("a", true)
	f("A.b_c-9", true)
	f("...", true)
	f(strings.Repeat("x", 249), true)
	f("", false)
	f(".", false)
	f("..", false)
	f("a b", false)
	f("a/b", false)
	f("ü", false)
	f("a\x00", false)
	f(strings.Repeat("x", 250), false)
}

// Names that differ in '.' and '_' only cannot live together, whichever came
// first. Those of one request may: Kafka looks at what is there before it.
func TestCollisions(t *testing.T) {
	f := func(there, name, want string) {
		t.Helper()
		c := newCluster(t, 1)
		if err := c.create(named(there))[0].Err; err != nil {
			t.Fatal(err)
		}
		err := c.create(named(name))[0].Err
		if got := errorText(err); got != want || err != nil && !errors.Is(err, ErrInvalidName) {
			t.Errorf("%s beside %s: %q, want %q", name, there, got, want)
		}
	}
	f("a.b", "a_b", "Topic 'a_b' collides with existing topic: a.b")
	f("a_b", "a.b", "Topic 'a.b' collides with existing topic: a_b")
	f("_x.y", ".x_y", "Topic '.x_y' collides with existing topic: _x.y")
	f("a.b", "a-b", "")
	f("a.b", "ab", "")
	f("a.b.c", "a.b_d", "")
	f("a.bc", "a_b", "")

	c := newCluster(t, 1)
	for _, made := range c.create(named("p.q"), named("p_q")) {
		if made.Err != nil {
			t.Error(made.Err)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestExistsAndTwice(t *testing.T) {
	c := newCluster(t, 1)
	created := c.create(named("twice"), named("once"), named("twice"), named("__cluster_metadata"))
	var got []string
	for _, x := range created {
		got = append(got, x.Name+": "+errorText(x.Err))
	}
	want := []string{"once: ", "twice: Duplicate topic name.", "__cluster_metadata: Creation of internal topic __cluster_metadata is prohibited."}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if err := c.create(named("once"))[0].Err; !errors.Is(err, ErrTopicExists) || err.Error() != "Topic 'once' already exists." {
		t.Error(err)
	}
}

// What is wrong with counts and assignments, and in which order it is said.
func TestRefusedTopics(t *testing.T) {
	c := newCluster(t, 1, 2)
	f := func(what string, s TopicSpec, want error) {
		t.Helper()
		s.Name = "x"
		if err := c.create(s)[0].Err; !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	assigned := func(parts ...Replicas) TopicSpec {
		return TopicSpec{Partitions: -1, Replication: -1, Assignment: parts}
	}
	on := func(p int32, nodes ...model.NodeID) Replicas { return Replicas{p, nodes} }
	f("no partitions", TopicSpec{Partitions: 0, Replication: 1}, ErrInvalidPartitions)
	f("fewer than none", TopicSpec{Partitions: -2, Replication: 1}, ErrInvalidPartitions)
	f("no replicas", TopicSpec{Partitions: 1, Replication: 0}, ErrInvalidReplication)
	f("more replicas than brokers", TopicSpec{Partitions: 1, Replication: 3}, ErrInvalidReplication)
	f("assignment and replicas", TopicSpec{Partitions: -1, Replication: 1, Assignment: []Replicas{on(0, 1)}}, ErrInvalidRequest)
	f("assignment and partitions", TopicSpec{Partitions: 1, Replication: -1, Assignment: []Replicas{on(0, 1)}}, ErrInvalidRequest)
	f("a gap", assigned(on(0, 1), on(2, 1)), ErrInvalidAssignment)
	f("below zero", assigned(on(-1, 1)), ErrInvalidAssignment)
	f("twice", assigned(on(0, 1), on(0, 2)), ErrInvalidAssignment)
	f("an unknown broker", assigned(on(0, 9)), ErrInvalidAssignment)
	f("a broker twice", assigned(on(0, 1, 1)), ErrInvalidAssignment)
	f("no broker", assigned(on(0)), ErrInvalidAssignment)
	f("unequal", assigned(on(0, 1), on(1, 1, 2)), ErrInvalidAssignment)
	var invalid *config.InvalidError
	if err := c.create(TopicSpec{Name: "x", Configs: []config.Override{{Name: "nobody.knows", Value: new("1")}}})[0].Err; !errors.As(err, &invalid) {
		t.Errorf("configs are looked at before counts: %v", err)
	}
	if _, _, err := c.rules.CreateTopics(c.track.Image(), []TopicSpec{{Name: "a", Partitions: 6000}, {Name: "b", Partitions: 6000}}); !errors.Is(err, ErrPolicy) {
		t.Errorf("12,000 partitions: %v", err)
	}
}

// A topic that is made is in the image as asked, with leaders spread evenly
// and the brokers' directories.
func TestAssignments(t *testing.T) {
	c := newCluster(t, 1, 2, 3)
	f := func(name string, s TopicSpec, want ...[]model.NodeID) {
		t.Helper()
		s.Name = name
		x := c.create(s)[0]
		if x.Err != nil {
			t.Errorf("%s: %v", name, x.Err)
			return
		}
		topic := c.track.Image().Topic(name)
		var got [][]model.NodeID
		for _, p := range topic.Partitions {
			got = append(got, p.Replicas)
			if p.Leader != p.Replicas[0] || !cmp.Equal(p.ISR, p.Replicas) || p.LeaderEpoch != 0 {
				t.Errorf("%s: %+v", name, p)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if x.ID != topic.ID || int(x.Partitions) != len(want) || int(x.Replication) != len(want[0]) {
			t.Errorf("%s: said %+v", name, x)
		}
	}
	f("spread", TopicSpec{Partitions: 4, Replication: 2}, []model.NodeID{1, 2}, []model.NodeID{2, 3}, []model.NodeID{3, 1}, []model.NodeID{1, 2})
	f("defaults", TopicSpec{Partitions: -1, Replication: -1}, []model.NodeID{1}, []model.NodeID{2}, []model.NodeID{3})
	f("own", TopicSpec{Partitions: -1, Replication: -1, Assignment: []Replicas{{1, []model.NodeID{2}}, {0, []model.NodeID{3}}}}, []model.NodeID{3}, []model.NodeID{2})
}

// What a new cluster begins with, and that dynamic configs win over static ones
// until they go.
func TestFormatAndConfigs(t *testing.T) {
	c := newCluster(t, 1)
	image := c.track.Image()
	if got := image.Feature(metadata.MetadataVersion); got != Level {
		t.Errorf("metadata.version %d", got)
	}
	if err := CheckLevel(image); err != nil {
		t.Error(err)
	}
	f := func(what string, r metadata.Resource, value *string, wantMinISR int, wantSource config.Source) {
		t.Helper()
		if r.Type != 0 {
			c.apply([]metadata.Record{{Message: metadata.ConfigRecord(r, "min.insync.replicas", value)}})
		}
		own, all := Dynamic(c.track.Image(), 1)
		b := Effective(c.rules.Config, own, all)
		for _, e := range config.DescribeBroker(b) {
			if e.Name == "min.insync.replicas" && e.Source != wantSource {
				t.Errorf("%s: source %d, want %d", what, e.Source, wantSource)
			}
		}
		if b.Topic.MinISR != wantMinISR {
			t.Errorf("%s: %d, want %d", what, b.Topic.MinISR, wantMinISR)
		}
	}
	own := metadata.Resource{Type: metadata.ResourceBroker, Name: "1"}
	f("formatted", metadata.Resource{}, nil, 1, config.DynamicDefaultBroker)
	f("for all", allBrokers, new("2"), 2, config.DynamicDefaultBroker)
	f("for this one", own, new("3"), 3, config.DynamicBroker)
	f("unreadable: as if it were not there", own, new("x"), 2, config.DynamicDefaultBroker)
	f("gone", own, nil, 2, config.DynamicDefaultBroker)
	f("gone for all", allBrokers, nil, 1, config.Default)
}

func TestNewerClusterIsRefused(t *testing.T) {
	c := newCluster(t, 1)
	c.apply([]metadata.Record{{Message: metadata.FeatureRecord(metadata.MetadataVersion, Level+1)}})
	if err := CheckLevel(c.track.Image()); err == nil {
		t.Error("a newer metadata.version is taken")
	}
}

// Blocks of producer ids do not overlap, whoever takes them.
func TestProducerIDs(t *testing.T) {
	c := newCluster(t, 1, 2)
	end := model.ProducerID(0)
	for i := range 5 {
		records, first, last := c.rules.ProducerIDs(c.track.Image(), model.NodeID(1+i%2))
		if first != end || last != first+producerIDBlock {
			t.Errorf("block [%d, %d) after %d", first, last, end)
		}
		end = last
		c.apply(records)
	}
}

// A broker that restarts is elected anew where it has the only replica, and
// nowhere else; deleting a topic that is gone changes nothing.
func TestRestartAndDelete(t *testing.T) {
	c := newCluster(t, 1, 2)
	c.create(TopicSpec{Name: "alone", Partitions: 2, Replication: 1}, TopicSpec{Name: "shared", Partitions: 1, Replication: 2})
	c.apply(Restart(c.track.Image(), 1, []model.UUID{{7}}))
	f := func(topic string, partition int, want model.Epoch) {
		t.Helper()
		if got := c.track.Image().Topic(topic).Partitions[partition].LeaderEpoch; got != want {
			t.Errorf("%s-%d: epoch %d, want %d", topic, partition, got, want)
		}
	}
	f("alone", 0, 1) // On broker 1.
	f("alone", 1, 0) // On broker 2.
	f("shared", 0, 0)

	ids := []model.TopicID{c.track.Image().Topic("alone").ID, {9}}
	records, errs := c.rules.DeleteTopics(c.track.Image(), ids)
	c.apply(records)
	again, _ := c.rules.DeleteTopics(c.track.Image(), ids)
	if c.track.Image().Topic("alone") != nil || len(again) != 0 || errors.Join(errs...) != nil {
		t.Error("deleted badly")
	}
}

// Partitions are charged once for each topic that would be made or deleted;
// what is refused for another reason is not charged, and what is over the
// quota is not done.
func TestCharge(t *testing.T) {
	c := newCluster(t, 1)
	var charged []int
	tooMuch := errors.New("too much")
	c.rules.Charge = func(n int) error {
		charged = append(charged, n)
		if n > 5 {
			return tooMuch
		}
		return nil
	}
	image := c.track.Image()
	records, created, err := c.rules.CreateTopics(image, []TopicSpec{
		{Name: "three", Partitions: 3, Replication: 1},
		{Name: "many", Partitions: 6, Replication: 1},
		{Name: "bad name", Partitions: 1, Replication: 1},
		{Name: "two", Assignment: []Replicas{{0, []model.NodeID{1}}, {1, []model.NodeID{1}}}, Partitions: -1, Replication: -1},
	})
	if err != nil || !slices.Equal(charged, []int{3, 6, 2}) || created[1].Err != tooMuch || created[0].Err != nil {
		t.Errorf("%v, charged %v: %+v", err, charged, created)
	}
	c.apply(records)
	charged = nil
	records, errs, err := c.rules.CreatePartitions(c.track.Image(), []MorePartitions{{Topic: "three", Count: 4}, {Topic: "two", Count: 8}, {Topic: "two", Count: 1}})
	if err != nil || !slices.Equal(charged, []int{1, 6}) || errs[0] != nil || errs[1] != tooMuch || len(records) != 1 {
		t.Errorf("%v, charged %v: %v", err, charged, errs)
	}
	ids := []model.TopicID{c.track.Image().Topic("three").ID, c.track.Image().Topic("two").ID}
	c.rules.Charge = func(n int) error {
		if n == 3 {
			return tooMuch
		}
		return nil
	}
	records, errs = c.rules.DeleteTopics(c.track.Image(), ids)
	if len(records) != 1 || errs[0] != tooMuch || errs[1] != nil {
		t.Errorf("%d records, %v", len(records), errs)
	}
}
