package txn

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/barnabas-log/barnabas/tests/node"
)

func TestMain(m *testing.M) { node.Main(m) }

const (
	source     = "source"
	copied     = "copied"
	group      = "copiers"
	partitions = 4
	writers    = 2
	copiers    = 4
	patience   = 90 * time.Second

	txnTimeout     = 1500 * time.Millisecond // After which the broker aborts.
	sessionTimeout = 1500 * time.Millisecond // After which a dead copier is out of the group.
)

// settings make a broker find out quickly that somebody is gone, and its logs
// roll.
var settings = []string{
	"log.segment.bytes=1048576", "group.initial.rebalance.delay.ms=0", "group.min.session.timeout.ms=1000",
	"transaction.abort.timed.out.transaction.cleanup.interval.ms=300",
	"transaction.state.log.num.partitions=5", "offsets.topic.num.partitions=5",
	"offsets.topic.replication.factor=1", "transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1",
}

// rounds is how often the broker is killed.
func rounds(t *testing.T) int {
	t.Helper()
	if s := os.Getenv("BARNABAS_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if os.Getenv("CI") == "true" {
		return 30
	}
	return 4
}

// world is what all clients share.
type world struct {
	t       *testing.T
	addr    string
	seed    uint64
	version int16       // Of transactions, finalised.
	writing atomic.Bool // Writers go on.
	copying atomic.Bool // Copiers go on.
	copied  atomic.Int64
	calm    atomic.Bool  // The broker lives on, with version 2.
	long    atomic.Int64 // Lives of three transactions that began then.
	counts  struct{ commits, aborts, deaths, zombies, late, offsets, refused atomic.Int64 }

	mu     sync.Mutex
	status map[txnID]status // Of writers' transactions.
	sizes  map[string]int   // Of copiers' transactions: records that were written.
}

// txnID is a writer's transaction.
type txnID struct{ writer, number int }

// status is what a client knows about the end of its transaction.
type status uint8

const (
	unknown status = iota // It was not told.
	committed
	aborted
)

func (w *world) random(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(w.seed, stream)) }

// TestExactlyOnce runs writers and copiers over a broker that is killed.
func TestExactlyOnce(t *testing.T) {
	n := node.Start(t, settings...)
	w := &world{t: t, addr: n.Addr, version: 2, seed: uint64(time.Now().UnixNano()), status: map[txnID]status{}, sizes: map[string]int{}}
	t.Logf("seed %d", w.seed)
	w.create()
	w.writing.Store(true)
	w.copying.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writing, copying sync.WaitGroup
	for i := range writers {
		writing.Go(func() { w.write(ctx, i) })
	}
	for i := range copiers {
		copying.Go(func() { w.copies(ctx, i) })
	}
	r := w.random(0)
	for round := range rounds(t) {
		w.progress(round)
		time.Sleep(time.Duration(r.IntN(500)) * time.Millisecond)
		if r.IntN(4) == 0 {
			w.setVersion(3 - w.version)
		}
		n.Kill()
		n.Again()
	}
	w.longLife()
	w.writing.Store(false)
	w.await("writers end", writing.Wait)
	want := w.check(source)
	t.Logf("%d records are committed in each partition", len(want[0]))
	w.copiesAll()
	w.copying.Store(false)
	w.await("copiers end", copying.Wait)
	w.checkCopy(want)
	w.checkQuiet()
	c := &w.counts
	t.Logf("copiers: %d commits, %d aborts, %d deaths, %d zombies, %d too late, %d with offsets by hand, %d refused",
		c.commits.Load(), c.aborts.Load(), c.deaths.Load(), c.zombies.Load(), c.late.Load(), c.offsets.Load(), c.refused.Load())
}

// progress waits until something more was copied.
func (w *world) progress(round int) {
	w.t.Helper()
	before := w.copied.Load()
	for end := time.Now().Add(patience); w.copied.Load() == before; time.Sleep(5 * time.Millisecond) {
		if w.t.Failed() || time.Now().After(end) {
			w.t.Fatalf("round %d: nothing is copied any more", round)
		}
	}
}

// longLife waits, without kills, until a copier has committed three transactions
// of version 2: checkVersions looks for their epochs, and kills, which are a
// matter of chance, may have let none live as long.
func (w *world) longLife() {
	w.t.Helper()
	if w.version != 2 {
		w.setVersion(2)
	}
	w.calm.Store(true)
	for round := 0; w.long.Load() == 0; round++ {
		w.progress(round)
	}
}

func (w *world) await(what string, f func()) {
	w.t.Helper()
	done := make(chan struct{})
	go func() { f(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		w.t.Fatalf("%s: not after %v", what, patience)
	}
}

// options are what all clients have in common: they try again soon, for a
// broker that dies often.
func (w *world) options(further ...kgo.Opt) []kgo.Opt {
	return append([]kgo.Opt{
		kgo.SeedBrokers(w.addr), kgo.AlwaysRetryEOF(), kgo.DialTimeout(time.Second),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }), kgo.RequestRetries(1000), kgo.RetryTimeout(patience),
		kgo.MetadataMinAge(20 * time.Millisecond), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
	}, further...)
}

// old are the versions of clients from before KIP-890.
func old() kgo.Opt { return kgo.MaxVersions(kversion.V3_6_0()) }

func (w *world) client(further ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	c, err := kgo.NewClient(w.options(further...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) admin(f func(ctx context.Context, a *kadm.Client) error) {
	w.t.Helper()
	c := w.client()
	defer c.Close()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := f(ctx, kadm.NewClient(c)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) create() {
	w.t.Helper()
	w.admin(func(ctx context.Context, a *kadm.Client) error {
		created, err := a.CreateTopics(ctx, partitions, 1, nil, source, copied)
		if err != nil {
			return err
		}
		return created.Error()
	})
}

// setVersion changes the finalised version of transactions under those that
// are open.
func (w *world) setVersion(to int16) {
	w.t.Helper()
	kind := int8(1)
	if to < w.version {
		kind = 2 // A downgrade that loses nothing.
	}
	w.version = to
	w.admin(func(ctx context.Context, a *kadm.Client) error {
		updated, err := a.UpdateFeatures(ctx, false, kadm.FeatureUpdate{Feature: "transaction.version", MaxVersionLevel: to, UpgradeType: kind})
		if err != nil {
			return fmt.Errorf("transaction.version %d: %w", to, err)
		}
		return updated.Error()
	})
}
