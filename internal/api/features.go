package api

import (
	"errors"
	"strings"

	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/wire"
)

// featuresMillis is how long a change of features waits for the metadata log, at
// least: Kafka does not look at the time of the request.
const featuresMillis = 30_000

// updateFeatures switches features of the cluster on and off (KIP-584), all
// that are named or none.
func (s *session) updateFeatures(c *call, q *wire.UpdateFeaturesRequest) wire.Response {
	updates := make([]controller.FeatureUpdate, len(q.FeatureUpdates))
	for i, u := range q.FeatureUpdates {
		updates[i] = controller.FeatureUpdate{Name: strings.Clone(u.Feature), Level: u.MaxVersionLevel, Type: controller.UpgradeType(u.UpgradeType)}
	}
	err := s.propose(max(q.TimeoutMs, featuresMillis), func(image *metadata.Image) ([]metadata.Record, error) {
		records, err := s.opts.Rules.UpdateFeatures(image, updates)
		if q.ValidateOnly {
			records = nil
		}
		return records, err
	})
	r := wire.NewUpdateFeaturesResponse()
	if err != nil {
		r.ErrorCode, r.ErrorMessage = s.codeOf(err, c), message(err)
		if errors.Is(err, wire.InvalidUpdateVersion) {
			r.ErrorMessage = fitting("The update failed for all features since the following feature had an error: " + err.Error())
		}
		return r
	}
	if r.ErrorMessage = nil; c.Version > 1 {
		return r
	}
	var seen places[string]
	for i := range q.FeatureUpdates {
		if _, isNew := seen.at(q.FeatureUpdates[i].Feature); isNew {
			x := wire.Extend(&r.Results)
			x.Feature, x.ErrorMessage = q.FeatureUpdates[i].Feature, new("NONE") // As Kafka says it.
		}
	}
	return r
}
