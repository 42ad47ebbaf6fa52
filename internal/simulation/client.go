package simulation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/barnabas-log/barnabas/conn"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// promises are what clients were told, and what they still ask for.
type promises struct {
	topics  map[model.TopicID]*topic // Made, and answered.
	deleted map[model.TopicID]bool   // Deleted, and answered; or asked for.
	records map[place]string         // Acknowledged by acks=all.
	values  int                      // Every value is another one.
}

type place struct {
	topic  model.TopicID
	index  int32
	offset model.Offset
}

// topic is one topic, used by one client.
type topic struct {
	name      string
	id        model.TopicID
	owner     int
	os        bool // durability=os: a power cut may take what was acknowledged.
	retention bool // Its beginning may go.
	pid       int64
	parts     []part
}

// part is what an idempotent producer knows of a partition. A batch that has no
// answer yet is sent again, after a restart too, until it has one.
type part struct {
	sequence int32
	pending  []string
}

func newPromises() promises {
	return promises{topics: map[model.TopicID]*topic{}, deleted: map[model.TopicID]bool{}, records: map[place]string{}}
}

func (p promises) clone() promises {
	c := promises{map[model.TopicID]*topic{}, maps.Clone(p.deleted), maps.Clone(p.records), p.values}
	for id, t := range p.topics {
		x := *t
		x.parts = slices.Clone(t.parts)
		c.topics[id] = &x
	}
	return c
}

// powerCut forgets what a power cut may take. A producer of such a topic cannot
// go on where it was.
func (p promises) powerCut() {
	for _, t := range p.topics {
		if t.os {
			t.pid = -1
			clear(t.parts)
		}
	}
	maps.DeleteFunc(p.records, func(at place, _ string) bool { return p.topics[at.topic] != nil && p.topics[at.topic].os })
}

// user is a client and the topics that are its own.
type user struct {
	world  *World
	conn   *conn.Conn
	number int
}

// client makes topics, produces and deletes, and fills the disk for a while.
func (w *World) client(n *network, number int) {
	c := conn.New("", conn.Options{Dial: n.dial})
	defer c.Close()
	ctx := context.Background()
	u := &user{world: w, conn: c, number: number}
	for range 10 + w.intN(30) {
		topics := u.topics()
		switch k := w.intN(40); {
		case len(topics) == 0 || k < 2:
			u.create(ctx)
		case k < 4 && len(topics) > 1:
			u.delete(ctx, topics[w.intN(len(topics))])
		case k == 4:
			time.Sleep(time.Duration(w.intN(20_000)) * time.Millisecond)
		case k == 5 && number == 0:
			w.fill()
		default:
			u.produce(ctx, topics[w.intN(len(topics))])
		}
	}
	w.disk.SetCapacity(0)
}

// fill leaves the disk next to no space, and gives it back after a while.
func (w *World) fill() {
	u, err := w.disk.DiskUsage("/")
	if err != nil {
		return
	}
	w.disk.SetCapacity(u.Used + int64(w.intN(10_000)))
	time.Sleep(time.Duration(w.intN(5000)) * time.Millisecond)
	w.disk.SetCapacity(0)
}

// topics are those of this client that are not being deleted, in a fixed order.
func (u *user) topics() []*topic {
	w := u.world
	w.mu.Lock()
	defer w.mu.Unlock()
	var mine []*topic
	for id, t := range w.mu.promises.topics {
		if _, asked := w.mu.promises.deleted[id]; t.owner == u.number && !asked {
			mine = append(mine, t)
		}
	}
	slices.SortFunc(mine, func(a, b *topic) int { return slices.Compare(a.id[:], b.id[:]) })
	return mine
}

func (u *user) create(ctx context.Context) {
	w := u.world
	x := &topic{owner: u.number, pid: -1, os: w.intN(3) == 0, retention: w.intN(3) == 0}
	q := wire.NewCreateTopicsRequest()
	t := wire.Extend(&q.Topics)
	x.parts = make([]part, 1+w.intN(6))
	// Few names: a topic that is deleted is made again under its name.
	t.Name, t.NumPartitions, t.ReplicationFactor = fmt.Sprintf("t-%d-%d", u.number, w.intN(6)), int32(len(x.parts)), 1
	set := func(key, value string) {
		c := wire.Extend(&t.Configs)
		c.Name, c.Value = key, &value
	}
	if w.intN(2) == 0 {
		set("internal.segment.bytes", "16000")
	}
	if x.os {
		set("durability", "os")
	}
	if x.retention {
		set("retention.bytes", "20000")
	}
	answer, err := u.conn.Do(ctx, q)
	if err != nil {
		return
	}
	made := answer.(*wire.CreateTopicsResponse).Topics[0]
	if made.ErrorCode != 0 {
		return
	}
	x.name, x.id = made.Name, made.TopicID
	if w.intN(2) == 0 {
		if r, err := u.conn.Do(ctx, wire.NewInitProducerIDRequest()); err == nil && r.(*wire.InitProducerIDResponse).ErrorCode == 0 {
			x.pid = r.(*wire.InitProducerIDResponse).ProducerID
		}
	}
	w.mu.Lock()
	w.mu.promises.topics[x.id] = x
	w.mu.Unlock()
}

func (u *user) delete(ctx context.Context, x *topic) {
	w := u.world
	w.mu.Lock()
	w.mu.promises.deleted[x.id] = false // Asked for: it may be there or not.
	w.mu.Unlock()
	q := wire.NewDeleteTopicsRequest()
	wire.Extend(&q.Topics).TopicID = x.id
	answer, err := u.conn.Do(ctx, q)
	if err != nil || answer.(*wire.DeleteTopicsResponse).Responses[0].ErrorCode != 0 {
		return
	}
	w.mu.Lock()
	w.mu.promises.deleted[x.id] = true
	w.mu.Unlock()
}

// values returns what to send to a partition: again what has no answer, or
// something new.
func (w *World) values(x *topic, index int) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := &x.parts[index]
	if p.pending == nil || x.pid < 0 {
		p.pending = make([]string, 1+w.mu.rng.IntN(4))
		for i := range p.pending {
			w.mu.promises.values++
			p.pending[i] = fmt.Sprintf("%d.%d/%d/%0*d", w.life, x.owner, w.mu.promises.values, w.mu.rng.IntN(3000), 0)
		}
	}
	return p.pending
}

func (u *user) produce(ctx context.Context, x *topic) {
	w := u.world
	index := w.intN(len(x.parts))
	values := w.values(x, index)
	o := record.BuilderOptions{}
	if x.pid >= 0 {
		o.Producer = &record.Producer{ID: model.ProducerID(x.pid), Sequence: x.parts[index].sequence}
	}
	b := record.NewBuilder(o)
	for _, v := range values {
		if b.Add(record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte(v)}) != nil {
			return
		}
	}
	_, batch, err := b.Build(nil)
	if err != nil {
		return
	}
	q := wire.NewProduceRequest()
	q.Acks, q.TimeoutMs = -1, 30_000
	t := wire.Extend(&q.TopicData)
	t.TopicID = x.id
	p := wire.Extend(&t.PartitionData)
	p.Index, p.Records = int32(index), batch
	answer, err := u.conn.Do(ctx, q)
	if err != nil {
		return
	}
	r := answer.(*wire.ProduceResponse).Responses[0].PartitionResponses[0]
	w.mu.Lock()
	defer w.mu.Unlock()
	switch wire.ErrorCode(r.ErrorCode) {
	case wire.None:
	case wire.KafkaStorageError:
		return // A full disk: it is sent again.
	default:
		w.failLocked(fmt.Errorf("produce to %s-%d: %w", x.name, index, wire.ErrorCode(r.ErrorCode)))
		return
	}
	x.parts[index].sequence += int32(len(values))
	x.parts[index].pending = nil
	for i, v := range values {
		w.mu.promises.records[place{x.id, int32(index), model.Offset(r.BaseOffset) + model.Offset(i)}] = v
	}
}
