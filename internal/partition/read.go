package partition

import (
	"errors"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/model"
)

// Isolation is how far a reader may see.
type Isolation int8

// Kafka's isolation levels.
const (
	Uncommitted Isolation = iota // Everything below the commit point.
	Committed                    // Nothing of open transactions.
)

// State is what a partition's offsets are at one moment.
type State struct {
	Start     model.Offset // First offset that exists.
	Committed model.Offset // High watermark.
	Stable    model.Offset // Last stable offset: LSO.
	End       model.Offset // Log end, committed or not.
	Epoch     model.Epoch
}

// Readable is how far a reader of that isolation may read.
func (s State) Readable(i Isolation) model.Offset {
	if i == Committed {
		return s.Stable
	}
	return s.Committed
}

// State returns the offsets, after comparing the epoch that the caller
// believes in.
func (p *Partition) State(believes model.Epoch) (State, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stateLocked()
	if err := p.usableLocked(); err != nil {
		return s, err
	}
	return s, p.checkEpochLocked(believes)
}

func (p *Partition) stateLocked() State {
	committed, start := p.mu.replica.Committed(), p.Log().Start()
	return State{
		// What a transaction holds may have been deleted.
		Start: start, Committed: committed, Stable: max(start, p.mu.producers.Stable(committed)),
		End: p.Log().End(), Epoch: p.mu.replica.Epoch(),
	}
}

// Read is what a reader is given.
type Read struct {
	State State
	// View is empty when there is nothing to read yet. The reader closes it.
	View commitlog.View
	// Diverged is set instead when the reader's last record is not in this log:
	// it should go back to End of Epoch (KIP-595).
	Diverged *EpochEnd
}

// EpochEnd is where an epoch ends in the log.
type EpochEnd struct {
	Epoch model.Epoch
	End   model.Offset
}

// Want is what a reader asks for.
type Want struct {
	From      model.Offset
	MaxBytes  int
	Isolation Isolation
	Believes  model.Epoch // The leader epoch the reader knows, or NoEpoch.
	LastEpoch model.Epoch // The epoch of the last record it has, or NoEpoch.
	AtLeast   bool        // Give one whole batch even if it exceeds MaxBytes.
}

// Read returns whole batches from the one that contains the offset on, as far
// as the reader may see.
func (p *Partition) Read(w Want) (Read, error) {
	s, err := p.State(w.Believes)
	r := Read{State: s}
	if err != nil {
		return r, err
	}
	if w.LastEpoch > model.NoEpoch {
		end, err := p.epochEnd(s, w.LastEpoch)
		if err != nil {
			return r, err
		}
		if end.Epoch == model.NoEpoch || end.End == model.NoOffset {
			return r, ErrOutOfRange
		}
		if end.Epoch < w.LastEpoch || end.End < w.From {
			r.Diverged = &end
			return r, nil
		}
	}
	// A reader may stand anywhere in the log: above what it may see it waits.
	if w.From < s.Start || w.From > s.End {
		return r, ErrOutOfRange
	}
	limit := s.Readable(w.Isolation)
	if w.From >= limit || w.MaxBytes <= 0 && !w.AtLeast {
		return r, nil
	}
	log := p.Log()
	view, err := log.Read(w.From, limit, w.MaxBytes, w.AtLeast)
	if errors.Is(err, commitlog.ErrClosed) && log != p.Log() { // It moved.
		view, err = p.Log().Read(w.From, limit, w.MaxBytes, w.AtLeast)
	}
	switch {
	case errors.Is(err, commitlog.ErrOutOfRange): // Retention came between.
		r.State.Start = p.Log().Start()
		return r, ErrOutOfRange
	case err != nil:
		return r, p.readFailed(err)
	}
	r.View = view
	return r, nil
}

// readFailed sorts what can go wrong when reading. A disk that fails ends the
// partition; a shortage of the process is this reader's problem alone.
func (p *Partition) readFailed(err error) error {
	switch {
	case errors.Is(err, commitlog.ErrClosed):
		return ErrNotLeader
	case shortage(err):
		return offline(err)
	}
	p.Fail(err)
	return p.Err()
}

// Aborted returns the aborted transactions that overlap [from, upTo).
func (p *Partition) Aborted(from, upTo model.Offset) ([]commitlog.AbortedTxn, error) {
	return p.Log().Aborted(from, upTo)
}

// Acknowledged tells how an append stands: done when everything before end is
// committed, an error when it will not be in the epoch it was made in.
func (p *Partition) Acknowledged(end model.Offset, epoch model.Epoch) (done bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.mu.replica.Epoch() != epoch:
		// What is at these offsets now may be another leader's.
		return false, ErrNotLeader
	case p.mu.replica.Committed() >= end:
		return true, nil
	case p.mu.failed != nil:
		return false, p.mu.failed
	case !p.mu.replica.Leads():
		return false, ErrNotLeader
	}
	return false, nil
}

// AwaitCommitted wakes who when the commit point reaches end, or when it never
// will. It reports false, and registers nothing, when there is nothing to wait
// for.
func (p *Partition) AwaitCommitted(end model.Offset, epoch model.Epoch, who Waker) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.failed != nil || !p.mu.replica.Leads() || p.mu.replica.Epoch() != epoch ||
		p.mu.replica.Committed() >= end {
		return false
	}
	p.mu.waiters.commits = insertByEnd(p.mu.waiters.commits, commitWait{end, who})
	return true
}

// insertByEnd keeps the order; nearly always the new one is the last.
func insertByEnd(s []commitWait, c commitWait) []commitWait {
	s = append(s, c)
	for i := len(s) - 1; i > 0 && s[i-1].end > s[i].end; i-- {
		s[i-1], s[i] = s[i], s[i-1]
	}
	return s
}

// ForgetCommit takes back AwaitCommitted.
func (p *Partition) ForgetCommit(who Waker) {
	p.mu.Lock()
	p.mu.waiters.forgetCommit(who)
	p.mu.Unlock()
}

// AwaitData registers a fetch that saw the partition in state seen and found
// too little. It reports false, and registers nothing, when there has been
// something new since: the fetch should look again.
func (p *Partition) AwaitData(seen State, n *Need) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.usableLocked() != nil || p.stateLocked().Readable(n.isolation()) != seen.Readable(n.isolation()) ||
		p.mu.replica.Epoch() != seen.Epoch {
		return false
	}
	p.mu.waiters.reads = append(p.mu.waiters.reads, n)
	return true
}

// ForgetData takes back AwaitData.
func (p *Partition) ForgetData(n *Need) {
	p.mu.Lock()
	p.mu.waiters.forgetRead(n)
	p.mu.Unlock()
}

func (n *Need) isolation() Isolation {
	if n.Stable {
		return Committed
	}
	return Uncommitted
}

// EpochAt is the leader epoch of the record at an offset. Kafka's leader notes
// its epoch when it is elected, we note it with the first record; an epoch
// without records begins at the end all the same.
func (p *Partition) EpochAt(o model.Offset) (model.Epoch, error) {
	epoch, err := p.Log().EpochAt(o)
	if err == nil && (epoch == model.NoEpoch || o >= p.Log().End()) {
		epoch, _ = p.Epoch()
	}
	return epoch, err
}

// EpochEnd tells where an epoch ends in the log: see [commitlog.Log.EpochEnd].
// The current epoch ends at the end.
func (p *Partition) EpochEnd(believes, of model.Epoch) (EpochEnd, error) {
	s, err := p.State(believes)
	if err != nil {
		return EpochEnd{}, err
	}
	return p.epochEnd(s, of)
}

func (p *Partition) epochEnd(s State, of model.Epoch) (EpochEnd, error) {
	switch {
	case of == s.Epoch:
		return EpochEnd{of, s.End}, nil
	case of < model.NoEpoch: // Kafka takes it for one before the first.
		return EpochEnd{of, s.Start}, nil
	}
	epoch, end, err := p.Log().EpochEnd(of)
	if err == nil && of > model.NoEpoch && of < s.Epoch && epoch == model.NoEpoch {
		// Above all that the log holds, below what this leader would note.
		if last, err := p.Log().LastEpoch(); err == nil && last != model.NoEpoch {
			return EpochEnd{last, s.End}, nil
		}
		return EpochEnd{of, s.End}, nil
	}
	return EpochEnd{epoch, end}, err
}
