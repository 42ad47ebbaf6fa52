package partition

// Numbers are what metrics show of a partition.
type Numbers struct {
	State
	Bytes     int64
	Segments  int
	Producers int // That are remembered.
	Offline   bool
	// OldestTxn is the timestamp of the first batch of the oldest open
	// transaction, in milliseconds since 1970; 0 if none is open.
	OldestTxn int64
}

// Numbers returns the partition's numbers now.
func (p *Partition) Numbers() Numbers {
	p.mu.Lock()
	n := Numbers{State: p.stateLocked(), Producers: p.mu.producers.Len(), Offline: p.mu.failed != nil}
	if o, ok := p.mu.producers.OldestOpen(); ok {
		n.OldestTxn = o.Since
	}
	p.mu.Unlock()
	n.Bytes, n.Segments = p.Log().Size(), p.Log().Segments()
	return n
}
