package api

import (
	"maps"
	"sync/atomic"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
)

// Configs gives a broker's effective configuration, and remembers it: it takes
// longer to make than most requests.
type Configs struct {
	static *config.Broker
	self   model.NodeID
	last   atomic.Pointer[effective]
}

// effective is a configuration and what it was made of.
type effective struct {
	broker   *config.Broker
	own, all map[string]string
}

// NewConfigs returns the configurations of a broker that was started with one.
func NewConfigs(static *config.Broker, self model.NodeID) *Configs {
	return &Configs{static: static, self: self}
}

// In returns the configuration that holds in an image.
func (c *Configs) In(image *metadata.Image) *config.Broker {
	own, all := controller.Dynamic(image, c.self)
	if e := c.last.Load(); e != nil && maps.Equal(e.own, own) && maps.Equal(e.all, all) {
		return e.broker
	}
	b := controller.Effective(c.static, own, all)
	c.last.Store(&effective{b, own, all})
	return b
}
