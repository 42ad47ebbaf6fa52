package api

import (
	"maps"
	"sync/atomic"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
)

// configs gives this broker's effective configuration, and remembers it: it
// takes longer to make than most requests.
type configs struct {
	static *config.Broker
	self   model.NodeID
	last   atomic.Pointer[effective]
}

// effective is a configuration and what it was made of.
type effective struct {
	broker   *config.Broker
	own, all map[string]string
}

// in returns the configuration that holds in an image.
func (c *configs) in(image *metadata.Image) *config.Broker {
	own, all := controller.Dynamic(image, c.self)
	if e := c.last.Load(); e != nil && maps.Equal(e.own, own) && maps.Equal(e.all, all) {
		return e.broker
	}
	b := controller.Effective(c.static, own, all)
	c.last.Store(&effective{b, own, all})
	return b
}
