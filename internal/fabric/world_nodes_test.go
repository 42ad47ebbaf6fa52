package fabric

import (
	"bytes"
	"fmt"
	"time"
)

// producer is one that a user starts again when it crashes.
type producer struct {
	w       *world
	topic   string
	durable bool
	ending  bool
	node    *node // Nil while it is down.
	machine *Producer
	// What a durable one has on its disk.
	address string
	first   uint64
}

func (p *producer) partition() Partition { return Partition{p.topic, p.address} }

func (p *producer) start() {
	w := p.w
	o := ProducerOptions{Topic: p.topic, MinAcks: w.minAcks, MaxRecords: 60}
	if p.durable && p.address != "" {
		o.Resume = &ProducerState{First: p.first}
		for _, content := range w.truth[p.partition()][p.first:] {
			o.Resume.Contents = append(o.Resume.Contents, []byte(content))
		}
		w.resumes++
	} else {
		p.address, p.first = w.newID("P"), 0
		w.truth[p.partition()] = nil
	}
	o.Address, p.ending = p.address, false
	p.machine = NewProducer(w.now, o)
	p.node = w.newNode("p", p.address)
	n := p.node
	n.prefixes = func() [][]byte { return ProducerPrefixes(p.address) }
	n.handle = func(m *Message, _ []byte, from string) {
		before := p.machine.First()
		p.machine.Handle(m, from)
		p.released(before)
		p.drain()
	}
	if w.rng.IntN(2) == 0 { // C's have a socket that does not tell.
		n.subscribed = func(prefix []byte) { p.machine.Subscribed(w.now, prefix) }
	}
	n.tick = func() { p.machine.Tick(w.now); p.drain() }
	n.deadline = p.machine.Deadline
	n.gone = p.machine.Gone
	n.beat()
}

// released looks whether what is forgotten is stored.
func (p *producer) released(from uint64) {
	w := p.w
	need := w.minAcks
	if w.wipes > 0 {
		need = 1
	}
	for s := from; s < p.machine.First(); s++ {
		w.released++
		if n := w.copies(p.partition(), s); n < need {
			w.fatalf("%v: record %d is in %d stores, and forgotten", p.partition(), s, n)
		}
	}
	if p.durable && w.rng.IntN(4) == 0 {
		p.first = p.machine.First() // Written down at times.
	}
}

func (p *producer) publish() {
	w := p.w
	if p.ending {
		p.end()
		return
	}
	content := fmt.Sprintf("%s/%d/%x", p.address, p.machine.Next(), w.rng.Uint32())
	if w.rng.IntN(20) == 0 {
		content = ""
	}
	switch sequence, err := p.machine.Publish(w.now, []byte(content)); {
	case err == ErrFull:
		w.refused++
	case err != nil:
		w.fatalf("publish: %v", err)
	case sequence != uint64(len(w.truth[p.partition()])):
		w.fatalf("published as %d, want %d", sequence, len(w.truth[p.partition()]))
	default:
		w.truth[p.partition()] = append(w.truth[p.partition()], content)
		w.published++
	}
	p.drain()
}

func (p *producer) drain() {
	p.node.publish(p.machine.Drain())
	for more := true; more; {
		more = p.machine.Serve(3)
		p.node.publish(p.machine.Drain())
	}
}

func (p *producer) crash() {
	p.w.kill(p.node)
	p.node = nil
	p.w.producerCrashes++
}

// terminate ends one, after which another begins.
func (p *producer) terminate() {
	if p.node != nil && !p.durable {
		p.machine.Terminate()
		p.ending = true
	}
}

// end lets another begin if this one is done.
func (p *producer) end() {
	if p.machine.Done() {
		p.w.terminated++
		p.w.kill(p.node)
		p.start()
	}
}

// store is both halves, and a disk that may lose what is not synced.
type store struct {
	w             *world
	id            string
	disk          map[Partition]*disk
	writer        *Writer // Nil while it is down.
	reader        *Reader
	wNode, rNode  *node
	order         []Partition // By the writer's numbers.
	pending       []Run       // Appended, not synced.
	appended      map[int]uint64
	readerAddress string
}

type disk struct {
	has                        map[uint64]bool
	begin, start, end, trimmed uint64
}

func (s *store) start() {
	w := s.w
	s.readerAddress = w.newID("R")
	s.order, s.pending, s.appended = nil, nil, map[int]uint64{}
	var ends []uint64
	for _, p := range w.partitions() {
		if d := s.disk[p]; d != nil {
			s.appended[len(s.order)] = d.end
			s.order, ends = append(s.order, p), append(ends, d.end)
		}
	}
	s.writer = NewWriter(w.now, WriterOptions{Address: s.id, Reader: s.readerAddress, chunk: 7, AskHeads: 20 * time.Second}, s.order, ends)
	s.reader = NewReader(ReaderOptions{Address: s.readerAddress, Writer: s.id})
	for number := range s.order {
		s.tellReader(number)
	}
	s.wNode, s.rNode = w.newNode("w", s.id), w.newNode("r", s.readerAddress)
	n := s.wNode
	n.prefixes = func() [][]byte { return append(WriterPrefixes(s.id), PublishedPrefixes()...) }
	n.subscribed = func(prefix []byte) { s.writer.Subscribed(prefix); s.drain() }
	n.handle = func(m *Message, content []byte, from string) {
		s.writer.Handle(w.now, m, bytes.Clone(content), from)
		if w.rng.IntN(4) == 0 || w.quiet {
			s.drain()
		}
	}
	n.tick = func() { s.writer.Tick(w.now); s.drain() }
	n.deadline = s.writer.Deadline
	n = s.rNode
	n.prefixes = func() [][]byte { return ReaderPrefixes(s.readerAddress) }
	n.subscribed = func(prefix []byte) { s.reader.Subscribed(prefix); s.serve() }
	n.handle = func(m *Message, _ []byte, _ string) { s.reader.Handle(m); s.serve() }
	n.tick = s.serve
	n.deadline = func() time.Time { return time.Time{} }
	s.wNode.beat()
	s.rNode.beat()
}

// drain appends what the writer has gathered.
func (s *store) drain() {
	out := s.writer.Drain()
	s.wNode.publish(out.Sends)
	s.w.adopted += len(out.Skips)
	refused := map[int]bool{}
	for i := range out.Runs {
		r := out.Runs[i]
		for len(s.order) <= r.Number {
			s.order = append(s.order, Partition{})
		}
		s.order[r.Number] = r.Partition
		if refused[r.Number] {
			continue
		}
		if r.First < s.appended[r.Number] {
			s.w.fatalf("%v: a run from %d, where the log ends at %d", r.Partition, r.First, s.appended[r.Number])
		}
		if s.w.disaster(40) {
			s.w.failedWrites++
			refused[r.Number] = true
			s.writer.Refused(s.w.now, r.Number, s.appended[r.Number])
			continue
		}
		r.Contents = append([][]byte(nil), r.Contents...)
		s.check(&r)
		s.pending = append(s.pending, r)
		s.appended[r.Number] = r.End()
	}
}

// check looks whether what is to be stored was published like that.
func (s *store) check(r *Run) {
	truth := s.w.truth[r.Partition]
	for i, content := range r.Contents {
		sequence := r.First + uint64(i)
		if sequence >= uint64(len(truth)) || truth[sequence] != string(content) {
			s.w.fatalf("%v: record %d is stored as %q", r.Partition, sequence, content)
		}
	}
}

// flush syncs, and reports whether there was anything to do.
func (s *store) flush() bool {
	if s.writer == nil {
		return false
	}
	s.drain()
	synced := len(s.pending)
	if synced > 0 && !s.w.quiet {
		synced = s.w.rng.IntN(synced + 1)
	}
	runs := s.pending[:synced]
	s.pending = s.pending[synced:]
	for i := range runs {
		r := &runs[i]
		d := s.disk[r.Partition]
		if d == nil {
			d = &disk{has: map[uint64]bool{}, begin: r.First, start: r.First}
			s.disk[r.Partition] = d
		}
		for n := r.First; n < r.End(); n++ {
			d.has[n] = true
		}
		d.end = r.End()
		s.writer.Stored(r.Number, d.end)
		s.tellReader(r.Number)
	}
	s.drain()
	s.serve()
	return len(runs) > 0
}

func (s *store) tellReader(number int) {
	d := s.disk[s.order[number]]
	s.reader.Holds(number, s.order[number], d.begin, d.start, d.end)
}

// serve answers what the reader was asked.
func (s *store) serve() {
	w := s.w
	for more := true; more; {
		more = s.reader.ServeHeads(1 + w.rng.IntN(3))
		s.rNode.publish(s.reader.Drain())
	}
	for {
		read, ok := s.reader.Next(1 + w.rng.IntN(5))
		s.rNode.publish(s.reader.Drain())
		if !ok {
			return
		}
		d, next := s.disk[read.Partition], read.First
		for ; next < read.First+uint64(read.Count) && d.has[next]; next++ {
			s.rNode.publish([]Send{{Message: read.Message(next), Content: []byte(w.truth[read.Partition][next])}})
		}
		s.reader.Served(read, next)
		s.rNode.publish(s.reader.Drain())
	}
}

// trim is what retention does.
func (s *store) trim() {
	if !s.w.retention || s.writer == nil || len(s.order) == 0 {
		return
	}
	number := s.w.rng.IntN(len(s.order))
	d := s.disk[s.order[number]]
	if d == nil || d.end == d.start {
		return
	}
	to := d.start + 1 + s.w.rng.Uint64N(d.end-d.start)
	for n := d.start; n < to; n++ {
		delete(d.has, n)
	}
	d.start, d.trimmed = to, to
	s.w.trimmed[s.order[number]] = max(s.w.trimmed[s.order[number]], to)
	s.w.trims++
	s.tellReader(number)
}

func (s *store) crashOrStart() {
	if s.writer == nil {
		s.start()
		return
	}
	w := s.w
	w.kill(s.wNode)
	w.kill(s.rNode)
	s.writer = nil
	w.storeCrashes++
	for _, r := range s.pending {
		w.unsynced += len(r.Contents)
	}
	if w.minAcks > 1 && w.wipes == 0 && w.disaster(4) {
		w.wipes++
		s.id, s.disk = w.newID("S"), map[Partition]*disk{}
	}
}

// judge looks whether the store has what any store has.
func (s *store) judge() {
	w := s.w
	for _, p := range w.partitions() {
		end := w.stored(p)
		if end == 0 {
			continue
		}
		// Another may have had more, deleted it, and lost its disk.
		if it := s.writer.known[p]; it == nil || it.next < end || it.next > max(end, w.trimmed[p]) {
			w.fatalf("store %s has %v up to %+v, another up to %d", s.id, p, it, end)
		}
		if w.retention {
			continue // It may have come when records were deleted already.
		}
		d := s.disk[p]
		if d.start != 0 || d.end != end || len(d.has) != int(end) {
			w.fatalf("store %s has %+v of %v, want all up to %d", s.id, d, p, end)
		}
	}
}

// consumer is one whose user keeps its positions.
type consumer struct {
	w       *world
	reset   Reset
	topic   string
	node    *node
	machine *Consumer
	next    map[Partition]uint64
	began   map[Partition]uint64
}

func (c *consumer) start() {
	w := c.w
	address := w.newID("C")
	c.machine = NewConsumer(ConsumerOptions{Address: address, Reset: c.reset, Positions: c.next, chunk: 7, AskHeads: 20 * time.Second})
	c.node = w.newNode("c", address)
	n := c.node
	n.prefixes = func() [][]byte { return append(ConsumerPrefixes(address), TopicPrefixes(c.topic)...) }
	n.subscribed = func(prefix []byte) { c.machine.Subscribed(prefix); c.drain() }
	n.handle = func(m *Message, content []byte, from string) { c.machine.Handle(w.now, m, content, from); c.drain() }
	n.tick = func() { c.machine.Tick(w.now); c.drain() }
	n.deadline = c.machine.Deadline
	c.machine.Subscribe(w.now, c.topic)
	n.beat()
}

func (c *consumer) crash() {
	c.w.kill(c.node)
	c.w.consumerCrashes++
}

func (c *consumer) drain() {
	out := c.machine.Drain()
	c.node.publish(out.Sends)
	for _, s := range out.Skips {
		c.skip(s)
	}
	for i := range out.Deliveries {
		c.deliver(&out.Deliveries[i])
	}
}

func (c *consumer) deliver(d *Delivery) {
	w := c.w
	w.delivered++
	if c.topic != "" && c.topic != d.Subject {
		w.fatalf("%s gets a record of %s", c.topic, d.Subject)
	}
	next, known := c.next[d.Partition]
	switch {
	case !known && c.reset == Earliest && d.Sequence != 0:
		w.fatalf("%v begins with %d", d.Partition, d.Sequence)
	case !known:
		c.began[d.Partition] = d.Sequence
	case d.Sequence != next:
		w.fatalf("%v: %d after %d", d.Partition, d.Sequence, next)
	}
	if truth := w.truth[d.Partition]; d.Sequence >= uint64(len(truth)) || truth[d.Sequence] != string(d.Content) {
		w.fatalf("%v: record %d is delivered as %q", d.Partition, d.Sequence, d.Content)
	}
	c.next[d.Partition] = d.Sequence + 1
}

// skip looks whether some store has really deleted what is left out.
func (c *consumer) skip(s Skip) {
	w := c.w
	w.skips++
	gone := w.trimmed[s.Partition] >= s.To
	if next, known := c.next[s.Partition]; !gone || s.To <= s.From || s.From != next && (known || c.reset == Earliest) {
		w.fatalf("skipped %+v at %d", s, next)
	}
	c.next[s.Partition] = s.To
}

// judge looks whether the consumer has everything that can be had.
func (c *consumer) judge() {
	w := c.w
	for _, p := range w.partitions() {
		if c.topic != "" && c.topic != p.Subject {
			continue
		}
		next, known := c.next[p]
		end := w.stored(p)
		if next < end && (known || c.reset == Earliest) {
			w.fatalf("consumer %s (%d) has %v up to %d of %d", c.node.address, c.reset, p, next, end)
		}
	}
	if lag := c.machine.Lag(); len(lag) > 0 {
		w.fatalf("consumer %s lags: %v", c.node.address, lag)
	}
}
