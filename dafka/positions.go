package dafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/vfs"
)

// positions are the sequences wanted next.
type positions map[fabric.Partition]uint64

// keeper keeps them over the lives of a consumer.
type keeper interface {
	load(context.Context) (positions, error)
	save(context.Context, positions) error
	close() error
}

const (
	// keepInterval is how often the position is kept.
	keepInterval = time.Second
	// keepPatience is how long that may take.
	keepPatience = 10 * time.Second
)

// keeperOf is nil if nothing is to be kept.
func keeperOf(c *Config) keeper {
	x := &c.Consumer
	switch {
	case x.Positions != "":
		return positionsFile(x.Positions)
	case x.Group != "":
		return newPositionsGroup(x.Group, x.Brokers)
	}
	return nil
}

// loadPositions fills c.done: those that are kept come before those of the
// options.
func (c *Consumer) loadPositions() error {
	for p, next := range c.o.Positions {
		c.done[fabric.Partition{Subject: p.Topic, Address: p.Producer}] = next
	}
	if c.keeper = keeperOf(c.config); c.keeper == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), keepPatience)
	defer cancel()
	kept, err := c.keeper.load(ctx)
	if err != nil {
		return errors.Join(err, c.keeper.close())
	}
	maps.Copy(c.done, kept)
	return nil
}

// keep keeps the position until the consumer is closed.
func (c *Consumer) keep() {
	tick := time.NewTicker(keepInterval)
	defer tick.Stop()
	for {
		select {
		case <-c.closing.Done():
			return
		case <-tick.C:
			if err := c.savePositions(c.closing); err != nil && c.closing.Err() == nil {
				c.log.Error("position not kept", "err", err)
			}
		}
	}
}

// savePositions keeps the position if it has changed.
func (c *Consumer) savePositions(ctx context.Context) error {
	c.mu.Lock()
	if c.keeper == nil || c.saved {
		c.mu.Unlock()
		return nil
	}
	done := maps.Clone(c.done)
	maps.Copy(done, c.held)
	c.saved = true
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, keepPatience)
	defer cancel()
	err := c.keeper.save(ctx, done)
	if err != nil {
		c.mu.Lock()
		c.saved = false
		c.mu.Unlock()
	}
	return err
}

// positionsFile is a file with a JSON list.
type positionsFile string

// position is an element of it.
type position struct {
	Partition
	Next uint64 `json:"next"`
}

func (name positionsFile) load(context.Context) (positions, error) {
	text, err := os.ReadFile(string(name))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err = os.Stat(filepath.Dir(string(name))); err == nil {
			return nil, nil
		}
	}
	var list []position
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: consumer/positions: %s: %w", ErrConfig, name, err)
	}
	kept := positions{}
	for _, p := range list {
		if fabric.CheckName(p.Topic) != nil || fabric.CheckName(p.Producer) != nil || p.Next > fabric.MaxSequence+1 {
			return nil, fmt.Errorf("%w: consumer/positions: %s: no position: %+v", ErrConfig, name, p)
		}
		kept[fabric.Partition{Subject: p.Topic, Address: p.Producer}] = p.Next
	}
	return kept, nil
}

func (name positionsFile) save(_ context.Context, done positions) error {
	list := make([]position, 0, len(done))
	for p, next := range done {
		list = append(list, position{Partition{p.Subject, p.Address}, next})
	}
	slices.SortFunc(list, func(a, b position) int {
		return strings.Compare(a.Topic+"\x00"+a.Producer, b.Topic+"\x00"+b.Producer)
	})
	text, err := json.MarshalIndent(list, "", "\t")
	if err != nil {
		return err
	}
	return vfs.WriteFile(vfs.OS{}, string(name), append(text, '\n'))
}

func (name positionsFile) close() error { return nil }
