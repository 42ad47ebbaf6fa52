package dafka

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/vfs"
)

// position is an element of the file in which a consumer keeps where it is.
type position struct {
	Partition
	Next uint64 `json:"next"`
}

// loadPositions fills c.done.
func (c *Consumer) loadPositions() error {
	for p, next := range c.o.Positions {
		c.done[fabric.Partition{Subject: p.Topic, Address: p.Producer}] = next
	}
	name := c.config.Consumer.Positions
	if name == "" {
		return nil
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var positions []position
	if err == nil {
		err = json.Unmarshal(text, &positions)
	}
	if err != nil {
		return fmt.Errorf("%w: consumer/positions: %s: %w", ErrConfig, name, err)
	}
	for _, p := range positions {
		if fabric.CheckName(p.Topic) != nil || fabric.CheckName(p.Producer) != nil || p.Next > fabric.MaxSequence+1 {
			return fmt.Errorf("%w: consumer/positions: %s: no position: %+v", ErrConfig, name, p)
		}
		c.done[fabric.Partition{Subject: p.Topic, Address: p.Producer}] = p.Next
	}
	return nil
}

// savePositions replaces the file, if there is one and something has changed.
func (c *Consumer) savePositions() error {
	name := c.config.Consumer.Positions
	c.mu.Lock()
	if name == "" || c.saved {
		c.mu.Unlock()
		return nil
	}
	done := maps.Clone(c.done)
	c.saved = true
	c.mu.Unlock()
	positions := make([]position, 0, len(done))
	for p, next := range done {
		positions = append(positions, position{Partition{p.Subject, p.Address}, next})
	}
	slices.SortFunc(positions, func(a, b position) int {
		return strings.Compare(a.Topic+"\x00"+a.Producer, b.Topic+"\x00"+b.Producer)
	})
	text, err := json.MarshalIndent(positions, "", "\t")
	if err == nil {
		err = vfs.WriteFile(vfs.OS{}, name, append(text, '\n'))
	}
	if err != nil {
		c.mu.Lock()
		c.saved = false
		c.mu.Unlock()
	}
	return err
}
