package replicas

import (
	"errors"

	"github.com/barnabas-log/barnabas/model"
)

// refuse remembers a partition that could not be opened, or made, for want of
// space or of descriptors. found says that its directory was there.
func (d *disk) refuse(p model.Partition, found bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.refused[p] = found
}

// restore takes a reserve again when a full disk has space, and opens what
// could not be opened.
func (d *disk) restore() error {
	switch {
	case !d.dir.Full():
	case d.dir.Restore():
		d.owner.opts.Log.Info("disk has space again", "dir", d.dir.Path())
		d.saidFull = false
	case !d.saidFull:
		d.owner.opts.Log.Error("disk full, records are refused until there is space", "dir", d.dir.Path())
		d.saidFull = true
	}
	d.mu.Lock()
	waiting := len(d.mu.refused)
	d.mu.Unlock()
	if waiting == 0 || d.dir.Full() || d.dir.Low() {
		return nil
	}
	return d.admit()
}

// admit opens the partitions that were refused.
func (d *disk) admit() error {
	r := d.owner
	r.changing.Lock()
	defer r.changing.Unlock()
	d.mu.Lock()
	refused := d.mu.refused
	d.mu.refused = map[model.Partition]bool{}
	d.mu.Unlock()
	image := r.image.Load()
	for p, found := range refused {
		x, t := r.entry(p), image.Topic(p.Topic)
		if x == nil || t == nil || x.id != t.ID || x.disk != d || !isShortage(x.err) {
			continue // Its topic was deleted.
		}
		if found {
			r.open(image, d, p, t.ID, true)
		} else {
			r.create(image, d, p, t.ID)
		}
		if x = r.entry(p); x.err == nil {
			r.opts.Log.Info("partition has space again", "topic", p.Topic, "partition", p.Index)
		}
	}
	return errors.Join(d.applied(image.End()), d.syncRecovered())
}
