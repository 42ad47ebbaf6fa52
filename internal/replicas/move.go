package replicas

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
)

// A partition moves to another data directory by a copy (KIP-113): TOPIC-N.HEX-future
// is filled from the log while appends and fetches go on, and when it lacks next
// to nothing takes its place. The order of the last steps is what a crash has to
// find the way by:
//
//  1. The copy is durable. It gets the name TOPIC-N, and a note of where it comes
//     from. Now two directories have the name.
//  2. Under the partition's lock the rest is copied and the copy takes the place
//     of the log: from here on it is appended to, and nothing else.
//  3. It is synced, and marked.
//  4. The cluster is told where the partition lies (KIP-858).
//  5. The log that was left is put away, and the note removed.
//
// A start that finds two directories takes the one that has more. Before step 2
// that is the old log; after it every acknowledged record is in the copy, or was
// synced in the old log, and which of the two has all of them shows by their
// ends, since both hold the same records from the same start. One that finds a
// copy that has no name yet goes on copying.

// Errors of moves.
var (
	// ErrNoDir says that a path is not one of log.dirs.
	ErrNoDir = errors.New("replicas: no such data directory")
	// ErrCordoned says that a directory takes nothing new.
	ErrCordoned = errors.New("replicas: data directory is cordoned")
	// ErrLongName says that the name of a copy's directory would be too long.
	ErrLongName = errors.New("replicas: topic name too long to move")
)

const (
	// moveBytes is how much is copied in one go.
	moveBytes = 1 << 20
	// moveSync is how much is copied between two syncs: what is left for the end
	// should not take long.
	moveSync = 64 << 20
	// moveNear is a piece so small that the copy is as good as complete.
	moveNear = 64 << 10
	// moveRetry is how long a move waits that has no space.
	moveRetry = time.Second
)

// move is a partition on its way.
type move struct {
	p    model.Partition
	to   *disk
	name string // Of the copy's directory.

	cancelled atomic.Bool
	givenUp   atomic.Bool  // Nobody carries it on.
	size, end atomic.Int64 // Of the copy, for those who ask.

	// from is where the partition lay, from step 2 on, and left its log. Guarded by
	// changing.
	from *disk
	left *commitlog.Log
}

// moves are those that have begun and not ended: under way up to step 2,
// settling from there on.
type moves struct {
	sync.Mutex
	under, settling map[model.Partition]*move
	queue           []*move
	wake            chan struct{}
	pacer           pacer
}

// Move moves a partition to the data directory of a path, in the background, or
// leaves it where it is and ends a move that is under way. Where a partition
// that does not exist is to go is remembered: ErrUnknown.
func (r *Replicas) Move(p model.Partition, path string) error {
	to, err := r.target(p, path)
	if err != nil {
		return err
	}
	r.changing.Lock()
	defer r.changing.Unlock()
	x := r.entry(p)
	switch {
	case x == nil:
		r.prefer(p, to)
		return ErrUnknown
	case x.err != nil:
		return x.err
	case x.Err() != nil:
		return x.Err()
	}
	if m := r.moving(p); m != nil {
		if m.to == to {
			return nil
		}
		r.cancel(m)
	}
	if x.disk == to {
		return nil
	}
	return r.beginMove(p, x, to)
}

// target finds the disk of a path, and refuses what cannot be moved there.
func (r *Replicas) target(p model.Partition, path string) (*disk, error) {
	if !datadir.FutureFits(p) {
		return nil, ErrLongName
	}
	for _, d := range r.disks {
		if d.dir.Path() != path {
			continue
		}
		if d.cordoned(r.config.Load()) {
			return nil, ErrCordoned
		}
		return d, d.hasFailed()
	}
	for _, u := range r.opts.Unusable {
		if u.Path == path {
			return nil, fmt.Errorf("%w: %w", ErrDirFailed, u.Err)
		}
	}
	return nil, ErrNoDir
}

// prefer remembers where a partition is to be made.
func (r *Replicas) prefer(p model.Partition, d *disk) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.mu.preferred[p]; ok || len(r.mu.preferred) < maxPreferred {
		r.mu.preferred[model.Partition{Topic: string([]byte(p.Topic)), Index: p.Index}] = d
	}
}

// beginMove makes the directory of the copy. Caller holds changing.
func (r *Replicas) beginMove(p model.Partition, x *replica, to *disk) error {
	err := to.fresh(p)
	name := ""
	if err == nil {
		name, err = to.dir.CreateFuture(p, x.id, r.opts.Random)
	}
	if err != nil {
		to.judge(err)
		if full(err) {
			return fmt.Errorf("%w: %w", ErrDiskFull, err)
		}
		return fmt.Errorf("%w: %w", partition.ErrOffline, err)
	}
	r.opts.Log.Info("partition moves", "topic", p.Topic, "partition", p.Index, "from", x.disk.dir.Path(), "to", to.dir.Path())
	r.enqueueMove(&move{p: x.ID, to: to, name: name})
	return nil
}

func (r *Replicas) enqueueMove(m *move) {
	m.to.placed.Add(1)
	r.moves.Lock()
	r.moves.under[m.p] = m
	r.moves.queue = append(r.moves.queue, m)
	r.moves.Unlock()
	if x := r.entry(m.p); x != nil && x.err == nil {
		r.cleaner.stop(x.Partition) // It does not begin anew before the move ends.
	}
	r.wakeMovers()
}

func (r *Replicas) wakeMovers() {
	select {
	case r.moves.wake <- struct{}{}:
	default:
	}
}

// moving is the move of a partition that has not taken its place, or nil.
func (r *Replicas) moving(p model.Partition) *move {
	r.moves.Lock()
	defer r.moves.Unlock()
	return r.moves.under[p]
}

// awaitSettled waits until a move that took its place has put away what it left,
// or does so where somebody gave up.
func (r *Replicas) awaitSettled(ctx context.Context, m *move, x *replica) error {
	for {
		r.moves.Lock()
		before := r.moves.settling[m.p]
		r.moves.Unlock()
		if before == nil {
			return nil
		}
		if err := m.goesOn(ctx, x); err != nil {
			return err
		}
		if before.givenUp.Load() {
			if err := r.settle(ctx, before); err != nil {
				return err
			}
		}
		pause(ctx, brimPending)
	}
}

// cancel ends a move: who carries it out drops the copy. Caller holds changing.
func (r *Replicas) cancel(m *move) {
	m.cancelled.Store(true)
	r.forgetMove(m)
}

func (r *Replicas) forgetMove(m *move) {
	r.moves.Lock()
	defer r.moves.Unlock()
	if r.moves.under[m.p] == m {
		delete(r.moves.under, m.p)
	}
}

// endMove ends the moves of a partition whose topic is deleted. Caller holds
// changing.
func (r *Replicas) endMove(p model.Partition) {
	r.moves.Lock()
	under, settling := r.moves.under[p], r.moves.settling[p]
	r.moves.Unlock()
	if under != nil {
		r.cancel(under)
	}
	if settling != nil {
		r.putAwayLeft(settling)
	}
}

// carryMoves carries out moves, one after the other, until ctx ends.
func (r *Replicas) carryMoves(ctx context.Context) {
	for {
		m := r.nextMove()
		if m == nil {
			select {
			case <-r.moves.wake:
			case <-ctx.Done():
				return
			}
			continue
		}
		r.wakeMovers() // There may be one for another of us.
		r.carryOut(ctx, m)
	}
}

func (r *Replicas) nextMove() *move {
	r.moves.Lock()
	defer r.moves.Unlock()
	if len(r.moves.queue) == 0 {
		return nil
	}
	m := r.moves.queue[0]
	r.moves.queue = r.moves.queue[1:]
	return m
}

// errCancelled ends a move that nobody wants any more.
var errCancelled = errors.New("replicas: move cancelled")

// carryOut carries out one move and says what became of it. What a stop of the
// node interrupts is left for the next start.
func (r *Replicas) carryOut(ctx context.Context, m *move) {
	err := r.carry(ctx, m)
	m.givenUp.Store(err != nil)
	log := r.opts.Log.With("topic", m.p.Topic, "partition", m.p.Index, "to", m.to.dir.Path())
	switch {
	case err == nil:
		log.Info("partition has moved")
	case ctx.Err() != nil:
		return
	case m.cancelled.Load():
		r.dropCopy(m)
		log.Info("move ended, its topic is deleted or it is to go elsewhere")
	case m.from != nil:
		log.Error("partition has moved, and what it left is still there", "err", err)
		m.to.judge(err)
	default:
		log.Error("partition not moved", "err", err)
		m.to.judge(err)
		r.forgetMove(m)
		// If the log itself is broken, the copy may be all that there is.
		if x := r.entry(m.p); x == nil || x.err == nil && x.Err() == nil && m.to.hasFailed() == nil {
			r.dropCopy(m)
		}
	}
}

// dropCopy removes the directory of a copy.
func (r *Replicas) dropCopy(m *move) {
	m.to.placed.Add(-1)
	if err := m.to.dir.RemoveLog(m.name); err != nil {
		r.opts.Log.Error("directory of a copy not removed", "dir", m.to.dir.LogPath(m.name), "err", err)
	}
}

func (r *Replicas) carry(ctx context.Context, m *move) error {
	x := r.entry(m.p)
	if x == nil || x.err != nil || x.disk == m.to {
		return errCancelled
	}
	if m.cancelled.Load() {
		return errCancelled
	}
	o := m.to.partitionOptions(m.p, x.Config(), commitlog.Options{Events: m.to.tell(m.p)})
	o.Dir = m.to.dir.LogPath(m.name)
	f, err := partition.OpenFuture(x.Partition, o)
	if err != nil {
		return err
	}
	err = r.copyAll(ctx, m, x, f)
	if err == nil {
		err = r.takePlace(ctx, m, x, f)
	}
	if err != nil && m.from == nil {
		f.Close()
	}
	if err == nil {
		err = r.settle(ctx, m)
	}
	return err
}

// goesOn returns why a move should end.
func (m *move) goesOn(ctx context.Context, x *replica) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case m.cancelled.Load():
		return errCancelled
	case x.Err() != nil:
		return x.Err()
	}
	return m.to.hasFailed()
}

// copyAll copies until next to nothing is missing.
func (r *Replicas) copyAll(ctx context.Context, m *move, x *replica, f *partition.Future) error {
	for unsynced, said := 0, false; ; {
		if err := m.goesOn(ctx, x); err != nil {
			return err
		}
		piece := r.movePiece()
		if piece == 0 || m.to.dir.Full() || m.to.dir.Low() {
			if piece > 0 && !said {
				said = true
				r.opts.Log.Warn("move waits for space", "topic", m.p.Topic, "partition", m.p.Index, "dir", m.to.dir.Path())
			}
			pause(ctx, moveRetry)
			continue
		}
		n, err := f.Copy(piece)
		m.size.Store(f.Size())
		m.end.Store(int64(f.End()))
		switch {
		case full(err):
			pause(ctx, moveRetry)
			continue
		case err != nil:
			return err
		case n < moveNear && (n < piece || f.End() == x.Log().End()):
			return nil
		}
		m.to.copied(x.Config(), n)
		if unsynced += n; unsynced >= moveSync {
			if err := f.Sync(); err != nil {
				return err
			}
			unsynced = 0
		}
		r.pace(ctx, m, n)
	}
}

// movePiece is how much to copy in one go: a tenth of what is allowed in a
// second, so that the pauses are short. 0 says that moves are halted.
func (r *Replicas) movePiece() int {
	return int((min(r.moveRate(), 10*moveBytes) + 9) / 10)
}

// moveRate is replica.alter.log.dirs.io.max.bytes.per.second, which all moves
// share.
func (r *Replicas) moveRate() int64 { return r.config.Load().Disks.MoveBytesPerSecond }

// pace waits as long as the rate wants it after so many bytes, or until it is
// another one.
func (r *Replicas) pace(ctx context.Context, m *move, bytes int) {
	rate := r.moveRate()
	if rate == math.MaxInt64 || rate <= 0 {
		return
	}
	r.moves.pacer.setRate(float64(rate))
	wait := r.moves.pacer.due(bytes)
	for wait > 0 && ctx.Err() == nil && !m.cancelled.Load() && rate == r.moveRate() {
		step := min(wait, moveRetry)
		pause(ctx, step)
		wait -= step
	}
}

// takePlace makes the copy durable and puts it in the place of the log: steps 1
// and 2.
func (r *Replicas) takePlace(ctx context.Context, m *move, x *replica, f *partition.Future) error {
	mark, err := f.Checkpoint()
	if err != nil {
		return err
	}
	for range 100 { // What came while it was synced.
		if n, err := f.Copy(moveBytes); err != nil {
			return err
		} else if n < moveNear {
			break
		}
	}
	if err := r.awaitSettled(ctx, m, x); err != nil { // It may have moved a moment ago.
		return err
	}
	r.changing.Lock()
	defer r.changing.Unlock()
	if err := m.goesOn(ctx, x); err != nil {
		return err
	}
	if r.entry(m.p) != x {
		return errCancelled
	}
	live := m.to.dir.LogPath(m.p.String())
	err = f.Rehouse(live, mark, func() error { return m.to.dir.Promote(m.name, m.p, x.disk.id()) })
	if err != nil {
		return err
	}
	left, err := r.take(m, f, mark)
	if err != nil {
		return errors.Join(err, m.to.dir.Demote(m.p, m.name))
	}
	y := &replica{Partition: x.Partition, id: x.id, disk: m.to}
	y.marked.Store(r.opts.Now().UnixNano())
	r.put(m.p, y)
	r.forgetMove(m)
	m.from, m.left = x.disk, left
	r.moves.Lock()
	r.moves.settling[m.p] = m
	r.moves.Unlock()
	m.from.placed.Add(-1)
	m.to.touch(y.Partition)
	m.to.brim.hasRolled(m.p)
	return nil
}

// take lets the copy take the place of the log. An append waits for as long as
// the rest takes to be copied; if producers are faster than that, for a longer
// rest.
func (r *Replicas) take(m *move, f *partition.Future, mark commitlog.Mark) (left *commitlog.Log, err error) {
	m.to.mu.Lock()
	m.to.mu.marks[m.p] = mark
	m.to.mu.Unlock()
	err = m.to.writeMarks(false)
	for atMost := moveBytes; err == nil && left == nil; atMost *= 2 {
		left, err = f.Take(min(atMost, math.MaxInt32))
	}
	if err != nil {
		m.to.forgetMark(m.p)
		f.Close()
	}
	return left, err
}

// settle makes the partition durable where it is now, tells the cluster, and
// puts away what was left: steps 3 to 5. As long as one of them fails the old log
// stays.
func (r *Replicas) settle(ctx context.Context, m *move) error {
	y := r.entry(m.p)
	if y == nil || y.err != nil || y.disk != m.to {
		return nil // Its topic was deleted.
	}
	s, err := y.BeginSyncOf(m.to)
	if err != nil {
		return err
	}
	y.Synced(s, s.Flush())
	if err := y.Err(); err != nil {
		return err
	}
	m.to.grew(y.Partition)
	if err := errors.Join(m.to.mark([]*replica{y}, 1), m.to.writeMarks(false)); err != nil {
		return err
	}
	for r.opts.Propose != nil && r.believes(m.p) != m.to.id() {
		if err := m.goesOn(ctx, y); err != nil {
			return err
		}
		if r.tellPlaces(ctx); r.believes(m.p) != m.to.id() {
			pause(ctx, moveRetry)
		}
	}
	r.changing.Lock()
	defer r.changing.Unlock()
	r.putAwayLeft(m)
	return m.to.dir.Settle(m.p)
}

// believes is where the cluster believes a partition to be.
func (r *Replicas) believes(p model.Partition) model.UUID {
	t := r.image.Load().Topic(p.Topic)
	if t == nil || int(p.Index) >= len(t.Partitions) {
		return model.UUID{}
	}
	return r.believed(t.Partitions[p.Index])
}

// putAwayLeft puts away the log that a partition has left. Caller holds
// changing.
func (r *Replicas) putAwayLeft(m *move) {
	if m.left == nil {
		return
	}
	if err := errors.Join(m.left.Close(), m.from.putAway(m.p)); err != nil {
		r.opts.Log.Error("directory that a partition has left not put away", "topic", m.p.Topic, "partition", m.p.Index, "err", err)
		m.from.judge(err)
	}
	m.left = nil
	r.moves.Lock()
	delete(r.moves.settling, m.p)
	r.moves.Unlock()
}
