package metadata

import "github.com/barnabas-log/barnabas/model"

// Delta is the way from one image to the next.
type Delta struct {
	From *Image
	// Topics are the ids of topics that were made, changed or removed.
	Topics []model.TopicID
	// Configs are the resources whose configuration changed.
	Configs []Resource
	// Quotas is whether any client quota changed.
	Quotas bool
}

func (d *Delta) touch(id model.TopicID) {
	// Called once for each topic that is made, first edited or removed: only one
	// that is made or edited and then removed is named twice.
	if n := len(d.Topics); n == 0 || d.Topics[n-1] != id {
		d.Topics = append(d.Topics, id)
	}
}
