package controller

import (
	"maps"
	"strconv"
	"sync/atomic"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
)

// allBrokers is the resource of what is set for every broker of the cluster.
var allBrokers = metadata.Resource{Type: metadata.ResourceBroker}

// Configs gives a broker's effective configuration: what it was started with,
// under what the metadata log sets for it and for all brokers.
type Configs struct {
	static *config.Broker
	own    metadata.Resource
	last   atomic.Pointer[effective]
}

// effective is a configuration and what it was made of.
type effective struct {
	broker   *config.Broker
	own, all map[string]string
}

// NewConfigs returns the configurations of the broker self.
func NewConfigs(static *config.Broker, self model.NodeID) *Configs {
	return &Configs{static: static, own: metadata.Resource{Type: metadata.ResourceBroker, Name: strconv.Itoa(int(self))}}
}

// Broker returns the configuration that holds in an image. Nearly always it is
// that of the call before. A stored value that cannot be read is as if nothing
// were stored: the broker works with what it was started with.
func (c *Configs) Broker(image *metadata.Image) *config.Broker {
	own, all := image.Config(c.own), image.Config(allBrokers)
	if e := c.last.Load(); e != nil && maps.Equal(e.own, own) && maps.Equal(e.all, all) {
		return e.broker
	}
	b, err := c.static.WithDynamic(own, all)
	if err != nil {
		b = c.static
	}
	c.last.Store(&effective{b, own, all})
	return b
}
