package controller

import (
	"strconv"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
)

// allBrokers is the resource of what is set for every broker of the cluster.
var allBrokers = metadata.Resource{Type: metadata.ResourceBroker}

// Dynamic returns what the metadata log sets for a broker, and for all. The
// maps must not be changed.
func Dynamic(image *metadata.Image, self model.NodeID) (own, all map[string]string) {
	name := strconv.Itoa(int(self))
	return image.Config(metadata.Resource{Type: metadata.ResourceBroker, Name: name}), image.Config(allBrokers)
}

// Effective is a broker's configuration: what it was started with, under what
// the metadata log sets. A stored value that cannot be read is as if it were not
// stored; where values contradict each other, the broker works with what it was
// started with.
func Effective(static *config.Broker, own, all map[string]string) *config.Broker {
	b, err := static.WithDynamic(own, all)
	if err != nil {
		return static
	}
	return b
}

// effective is the configuration that holds in an image: Config, under what
// was set while the broker runs.
func (r Rules) effective(image *metadata.Image) *config.Broker {
	if r.Effective != nil {
		return r.Effective(image)
	}
	own, all := Dynamic(image, model.NodeID(r.Config.NodeID))
	return Effective(r.Config, own, all)
}
