package partition

import "github.com/barnabas-log/barnabas/internal/producers"

// Producers returns what is known of the producers that wrote here, in the
// order of their ids. Only the leader says so.
func (p *Partition) Producers() ([]producers.Producer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usableLocked(); err != nil {
		return nil, err
	}
	return p.mu.producers.Active(), nil
}
