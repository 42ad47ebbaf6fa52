package zmtp

import "fmt"

// maxFrames is how many frames a received message may have: each costs a
// descriptor, also an empty one.
const maxFrames = 4096

// Subscribe asks all publishers, those of today and tomorrow, for the messages
// whose first frame begins with prefix; the empty prefix is all. It counts: as many
// Unsubscribe take it back.
func (s *Socket) Subscribe(prefix []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.options.Kind.publishes() {
		return fmt.Errorf("zmtp: a %v cannot subscribe", s.options.Kind)
	}
	if len(prefix) > maxPrefix {
		return fmt.Errorf("zmtp: a prefix of %d bytes, at most %d", len(prefix), maxPrefix)
	}
	key := string(prefix)
	s.wanted[key]++
	if s.wanted[key] == 1 {
		s.filter.Lock()
		s.filter.prefixes.at(key)
		s.filter.Unlock()
		s.requestLocked(key, true)
	}
	return nil
}

// maxPrefix leaves room for the command's name in a frame that publishers take.
const maxPrefix = maxRequest - 64

// Unsubscribe takes back one Subscribe; what was never asked for is an error.
// Messages that are received already still come.
func (s *Socket) Unsubscribe(prefix []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := string(prefix)
	if s.wanted[key] == 0 {
		return fmt.Errorf("zmtp: not subscribed to %q", prefix)
	}
	s.wanted[key]--
	if s.wanted[key] == 0 {
		delete(s.wanted, key)
		s.filter.Lock()
		s.filter.prefixes.remove(key)
		s.filter.Unlock()
		s.requestLocked(key, false)
	}
	return nil
}

// requestLocked tells all publishers. One that lets too much wait is cut off, and
// hears everything anew if it was connected to.
func (s *Socket) requestLocked(prefix string, on bool) {
	for p := range s.peers {
		if !p.ready {
			continue // Will hear everything when it is.
		}
		if err := p.request(prefix, on); err != nil {
			s.log.Debug("publisher does not read", "peer", p.String(), "err", err)
			_ = p.conn.Close()
		}
	}
}

// request subscribes or cancels at a publisher, in the form that it understands.
func (p *Peer) request(prefix string, on bool) error {
	var ok bool
	switch {
	case p.minor == 0 && on:
		ok = p.queue.control(0, append([]byte{messageSubscribe}, prefix...))
	case p.minor == 0:
		ok = p.queue.control(0, append([]byte{messageCancel}, prefix...))
	case on:
		ok = p.queue.command(appendCommand(nil, commandSubscribe, []byte(prefix)))
	default:
		ok = p.queue.command(appendCommand(nil, commandCancel, []byte(prefix)))
	}
	if !ok {
		return fmt.Errorf("%w: too many subscriptions wait for it", errNotAllowed)
	}
	return nil
}

// handleMessage takes a frame of a message that came to a subscriber.
func (p *Peer) handleMessage(f frame) error {
	if p.batch == nil {
		p.batch = newBatch(p)
	}
	p.size += len(f.body)
	if p.size > p.socket.options.MaxMessage || p.batch.partial() == maxFrames {
		p.batch.drop()
		return fmt.Errorf("%w: a message of more than %d bytes or %d frames", ErrMalformed, p.socket.options.MaxMessage, maxFrames)
	}
	p.batch.ahead = p.in.w - p.in.r
	p.batch.add(f)
	if f.more() {
		return nil
	}
	p.size = 0
	if p.batch.full() {
		p.deliver()
	}
	return nil
}

// deliver hands over what has come, but for a message that is not yet complete,
// and waits until there is room for it.
func (p *Peer) deliver() {
	b := p.batch
	if b == nil || b.empty() {
		return
	}
	p.batch = nil
	if b.partial() > 0 {
		p.batch = b.rest()
		p.batch.From = p
	}
	s := p.socket
	if !s.options.Kind.publishes() {
		s.sift(b)
	}
	n := len(b.Messages)
	p.usual = n
	if b.empty() || !s.inbox.put(b, &p.cut) {
		b.Release()
		return
	}
	s.counts.received.Add(uint64(n))
}

// sift takes out of a batch what nobody subscribes to. Publishers may send it:
// while a CANCEL is on its way, and the welcome message in any case.
func (s *Socket) sift(b *Batch) {
	s.filter.RLock()
	defer s.filter.RUnlock()
	kept := b.Messages[:0]
	for _, m := range b.Messages {
		if s.filter.prefixes.matches(m[0]) {
			kept = append(kept, m)
			continue
		}
		for _, f := range m {
			b.bytes -= len(f)
		}
	}
	if n := len(b.Messages) - len(kept); n > 0 {
		clear(b.Messages[len(kept):])
		b.Messages = kept
		s.counts.filtered.Add(uint64(n))
	}
}
