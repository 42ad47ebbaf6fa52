package api

import (
	"slices"
	"strconv"

	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/wire"
)

// configResources are the kinds that ListConfigResources knows, in the order of
// its answer. Version 0, which had another name, knows client metrics alone
// (KIP-1142).
func configResources(version int16) []int8 {
	if version == 0 {
		return []int8{int8(metadata.ResourceClientMetrics)}
	}
	return []int8{
		int8(metadata.ResourceGroup), int8(metadata.ResourceClientMetrics), int8(metadata.ResourceBrokerLogger),
		int8(metadata.ResourceBroker), int8(metadata.ResourceTopic),
	}
}

// listConfigResources tells what can be configured, and, of groups and client
// metrics, what is.
func (s *session) listConfigResources(c *call, q *wire.ListConfigResourcesRequest) wire.Response {
	r := wire.NewListConfigResourcesResponse()
	kinds := configResources(c.Version)
	for _, k := range q.ResourceTypes {
		if !slices.Contains(kinds, k) {
			r.ErrorCode = int16(wire.UnsupportedVersion)
			return r
		}
	}
	image := s.opts.Metadata.Image()
	for _, k := range kinds {
		if len(q.ResourceTypes) == 0 || slices.Contains(q.ResourceTypes, k) {
			s.listResources(r, image, k)
		}
	}
	return r
}

func (s *session) listResources(r *wire.ListConfigResourcesResponse, image *metadata.Image, kind int8) {
	add := func(name string) {
		x := wire.Extend(&r.ConfigResources)
		x.ResourceName, x.ResourceType = name, kind
	}
	switch of := metadata.ResourceType(kind); of {
	case metadata.ResourceTopic:
		image.Topics("", func(t *metadata.Topic) bool {
			add(t.Name)
			return true
		})
	case metadata.ResourceBroker, metadata.ResourceBrokerLogger:
		for _, b := range image.Brokers() {
			if _, ok := s.address(b); ok {
				add(strconv.Itoa(int(b.ID)))
			}
		}
	default:
		image.Configs(of, func(name string, _ map[string]string) bool {
			add(name)
			return true
		})
	}
}
