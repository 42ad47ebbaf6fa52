package zmtp

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

const (
	// maxRequest is the longest SUBSCRIBE or CANCEL, and any frame, that a
	// publisher reads.
	maxRequest = 64 << 10
	// One connection may subscribe to prefixes of so many bytes, each of which
	// costs its entries, too: some fifty thousand of usual length. All together
	// may have more.
	maxSubscriptions    = 16 << 20
	maxAllSubscriptions = 512 << 20
	subscriptionEntries = 256

	// sentAtOnce is how many messages are queued before writers and others who send
	// get their turn.
	sentAtOnce = 256

	// forgotten is how many of a connection's prefixes are cancelled under the
	// lock at a time when it ends, so that senders need not wait for all.
	forgotten = 512
)

// Send queues a message for every peer that subscribes to a prefix of its first
// frame, and returns for how many, and for how many not because their queues are
// full. It never waits. Frames of more than MaxCopied bytes are not copied: nobody
// may change them afterwards. A message without frames, and one of a subscriber,
// is for nobody.
func (s *Socket) Send(frames ...[]byte) (peers, dropped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	peers, dropped = s.sendLocked(frames)
	s.finishSendLocked(peers, dropped)
	return peers, dropped
}

// SendBatch sends messages as Send does, for less than a Send of each. The slice
// may be used again, and its frames up to MaxCopied bytes. The counts are sums.
func (s *Socket) SendBatch(messages []Message) (peers, dropped int) {
	for some := range slices.Chunk(messages, sentAtOnce) {
		p, d := s.sendSome(some)
		peers += p
		dropped += d
	}
	return peers, dropped
}

func (s *Socket) sendSome(messages []Message) (peers, dropped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range messages {
		p, d := s.sendLocked(m)
		peers += p
		dropped += d
	}
	s.finishSendLocked(peers, dropped)
	return peers, dropped
}

// SendWait sends messages as SendBatch does, but where that would drop one it
// waits until every peer that wants it has room. It returns how many messages it
// has sent; the rest for the context's cause, or because the socket is closed.
// One peer that does not read holds up the caller, and nobody else.
func (s *Socket) SendWait(ctx context.Context, messages []Message) (done int, err error) {
	for done < len(messages) {
		n, full, err := s.sendFitting(messages[done:min(len(messages), done+sentAtOnce)])
		if done += n; err != nil {
			return done, err
		}
		if full == nil {
			continue
		}
		room := func() bool { return full.queue.fitsLocked(sizeOf(messages[done])) }
		if err := full.queue.await(ctx, room); err != nil {
			return done, err
		}
	}
	return done, nil
}

// sendFitting sends messages up to the first that some peer has no room for.
func (s *Socket) sendFitting(messages []Message) (done int, full *Peer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, nil, ErrClosed
	}
	sent := 0
	for _, m := range messages {
		size := sizeOf(m)
		matched := s.matchLocked(m)
		for _, p := range matched {
			if !p.queue.ending && !p.queue.fitsLocked(size) {
				full = p
			}
		}
		if full != nil {
			break
		}
		for _, p := range matched {
			if p.queue.pushLocked(m, size) {
				sent++
			}
		}
		done++
	}
	s.finishSendLocked(sent, 0)
	return done, full, nil
}

func (s *Socket) sendLocked(m Message) (peers, dropped int) {
	size := sizeOf(m)
	for _, p := range s.matchLocked(m) {
		if p.queue.pushLocked(m, size) {
			peers++
		} else {
			dropped++
		}
	}
	return peers, dropped
}

// sizeOf is at least what a message takes in a queue without encryption.
func sizeOf(m Message) (size int) {
	for _, f := range m {
		size += maxHeader + len(f)
	}
	return size
}

// matchLocked finds the peers that want a message, and locks their queues until
// finishSendLocked. The result lasts until the next call.
func (s *Socket) matchLocked(m Message) []*Peer {
	s.matched = s.matched[:0]
	if len(m) == 0 {
		return nil
	}
	s.send++
	for n, rest := &s.subscriptions.root, m[0]; n != nil; n, rest = n.step(rest) {
		for _, p := range n.value {
			if p.sent == s.send {
				continue // It has subscribed to two prefixes of this topic.
			}
			p.sent = s.send
			s.matched = append(s.matched, p)
			if !p.touched {
				p.touched = true
				p.queue.mu.Lock()
				s.touched = append(s.touched, p)
			}
		}
	}
	return s.matched
}

// finishSendLocked unlocks the queues and wakes their writers.
func (s *Socket) finishSendLocked(peers, dropped int) {
	for _, p := range s.touched {
		p.touched = false
		p.queue.filled.Signal()
		p.queue.mu.Unlock()
	}
	clear(s.touched)
	s.touched = s.touched[:0]
	s.counts.sent.Add(uint64(peers))
	if dropped > 0 {
		s.counts.dropped.Add(uint64(dropped))
	}
}

// attach makes a connection that has shaken hands one of the socket's peers.
func (s *Socket) attach(p *Peer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	p.ready = true
	for _, prefix := range slices.Sorted(maps.Keys(s.wanted)) {
		if err := p.request(prefix, true); err != nil {
			return err
		}
	}
	if s.options.Kind == XPub && s.options.Welcome != nil {
		p.queue.control(0, s.options.Welcome)
	}
	return nil
}

// handleRequest takes a frame of a message that came to a publisher: old and some
// new peers subscribe so. Other messages are for nobody.
func (p *Peer) handleRequest(f frame) error {
	whole := !p.pending && !f.more()
	p.pending = f.more()
	if !whole || len(f.body) == 0 || f.body[0] > messageSubscribe {
		return nil
	}
	return p.subscribe(f.body[1:], f.body[0] == messageSubscribe)
}

// subscribe notes what the peer wants, or no longer wants.
func (p *Peer) subscribe(prefix []byte, on bool) error {
	s := p.socket
	s.mu.Lock()
	count, err := s.countLocked(p, string(prefix), on)
	s.mu.Unlock()
	if err != nil || count < 0 || s.options.Kind != XPub {
		return err
	}
	p.tell(Subscription{Prefix: prefix, Subscribe: on, Count: count})
	return nil
}

// countLocked returns how often p now subscribes to prefix, -1 if it cancelled
// what it never asked for.
func (s *Socket) countLocked(p *Peer, prefix string, on bool) (count int, err error) {
	count = p.wants[prefix]
	switch {
	case !on && count == 0:
		return -1, nil
	case !on && count == 1:
		s.removeLocked(p, prefix)
		return 0, nil
	case !on:
		count--
	case count == 0:
		count, err = 1, s.addLocked(p, prefix)
	default:
		count++
	}
	if err == nil {
		p.wants[prefix] = count
	}
	return count, err
}

func (s *Socket) addLocked(p *Peer, prefix string) error {
	size := len(prefix) + subscriptionEntries
	if p.wantsSize+size > maxSubscriptions || s.wantsSize+size > maxAllSubscriptions {
		return fmt.Errorf("%w: more than %d bytes of subscriptions, or %d of all peers", ErrMalformed, maxSubscriptions, maxAllSubscriptions)
	}
	p.wantsSize += size
	s.wantsSize += size
	peers := s.subscriptions.at(prefix)
	*peers = append(*peers, p)
	return nil
}

func (s *Socket) removeLocked(p *Peer, prefix string) {
	peers := s.subscriptions.get(prefix)
	i := slices.Index(*peers, p)
	*peers = slices.Delete(*peers, i, i+1)
	if len(*peers) == 0 {
		s.subscriptions.remove(prefix)
	}
	delete(p.wants, prefix)
	p.wantsSize -= len(prefix) + subscriptionEntries
	s.wantsSize -= len(prefix) + subscriptionEntries
}

// forget cancels all that a connection, which has ended, subscribed to. The owner
// of an XPUB is told.
func (s *Socket) forget(p *Peer) {
	s.mu.Lock()
	prefixes := slices.Sorted(maps.Keys(p.wants))
	s.mu.Unlock()
	for some := range slices.Chunk(prefixes, forgotten) {
		s.mu.Lock()
		for _, prefix := range some {
			s.removeLocked(p, prefix)
		}
		s.mu.Unlock()
		for _, prefix := range some {
			if s.options.Kind == XPub {
				p.tell(Subscription{Prefix: []byte(prefix)})
			}
		}
	}
	p.deliver()
}

// tell adds an event to the batch.
func (p *Peer) tell(e Subscription) {
	if p.batch == nil {
		p.batch = newBatch(p)
	}
	e.Prefix = p.batch.keep(e.Prefix)
	p.batch.bytes += len(e.Prefix)
	p.batch.Subscriptions = append(p.batch.Subscriptions, e)
	if p.batch.full() {
		p.deliver()
	}
}
