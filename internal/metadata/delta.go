package metadata

import (
	"slices"

	"github.com/barnabas-log/barnabas/model"
)

// Delta is the way from one image to the next.
type Delta struct {
	From *Image
	// Topics are the ids of topics that were made, changed or removed.
	Topics []model.TopicID
	// Configs are the resources whose configuration changed.
	Configs []Resource
}

func (d *Delta) touch(id model.TopicID) {
	// A topic's records stand together, so looking at the last is enough to
	// keep the list short; Topics may still name one twice.
	if n := len(d.Topics); n == 0 || d.Topics[n-1] != id {
		d.Topics = append(d.Topics, id)
	}
}

func (d *Delta) configured(r Resource) {
	if !slices.Contains(d.Configs, r) {
		d.Configs = append(d.Configs, r)
	}
}
