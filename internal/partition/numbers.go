package partition

// Numbers are what metrics show of a partition.
type Numbers struct {
	State
	Bytes     int64
	Segments  int
	Producers int // That are remembered.
	Offline   bool
}

// Numbers returns the partition's numbers now.
func (p *Partition) Numbers() Numbers {
	p.mu.Lock()
	n := Numbers{State: p.stateLocked(), Producers: p.mu.producers.Len(), Offline: p.mu.failed != nil}
	p.mu.Unlock()
	n.Bytes, n.Segments = p.Log().Size(), p.Log().Segments()
	return n
}
