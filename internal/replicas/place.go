package replicas

import (
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/model"
)

// maxPreferred bounds what is remembered of partitions that do not exist. In
// Kafka nothing does; beyond it a wish is forgotten, and the partition goes
// where there are fewest.
const maxPreferred = 10_000

// Place chooses the directory of a new partition: the one that somebody asked
// for, or the one with the fewest partitions, those that are decided and not
// made yet among them. The zero UUID if there is none that takes any.
func (r *Replicas) Place(p model.Partition) model.UUID {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.mu.preferred[p]
	if d == nil || d.hasFailed() != nil {
		d = r.emptiestLocked()
	}
	if d == nil {
		return model.UUID{}
	}
	r.mu.planned[p] = d
	return d.id()
}

// Cordoned reports whether no data directory takes new partitions (KIP-1066).
func (r *Replicas) Cordoned() bool { return r.emptiest() == nil }

func (r *Replicas) emptiest() *disk {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.emptiestLocked()
}

// emptiestLocked is nil if every disk has failed or is cordoned.
func (r *Replicas) emptiestLocked() *disk {
	planned := map[*disk]int64{}
	for _, d := range r.mu.planned {
		planned[d]++
	}
	var best *disk
	for _, d := range r.disks {
		if d.hasFailed() != nil || d.cordoned(r.config.Load()) {
			continue
		}
		if best == nil || d.placed.Load()+planned[d] < best.placed.Load()+planned[best] {
			best = d
		}
	}
	return best
}

// forgetPlans comes with an image in which they are carried out, or never will
// be.
func (r *Replicas) forgetPlans() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.mu.planned {
		delete(r.mu.preferred, p)
	}
	clear(r.mu.planned)
}

// id is that of the data directory.
func (d *disk) id() model.UUID { return d.dir.Meta().Directory }

// cordoned reports whether the disk takes nothing new.
func (d *disk) cordoned(b *config.Broker) bool { return b.Disks.IsCordoned(d.dir.Path()) }
