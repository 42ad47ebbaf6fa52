package api

import (
	"cmp"
	"regexp"
	"slices"

	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/wire"
)

// softwareName is what KIP-511 allows as a client's name and version.
var softwareName = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`)

// serveApiVersions tells what we speak. A version that we do not know is
// answered in version 0, so that the client can ask again.
func (s *session) serveApiVersions(c *call) {
	api, _ := wire.LookupAPI(c.Key)
	if !api.Supports(c.Version) {
		r := wire.NewApiVersionsResponse()
		r.ErrorCode = int16(wire.UnsupportedVersion)
		v := wire.Extend(&r.ApiKeys)
		v.ApiKey, v.MinVersion, v.MaxVersion = int16(c.Key), api.MinVersion, api.MaxVersion
		s.replyIn(c, 0, r)
		return
	}
	q := wire.NewApiVersionsRequest()
	if err := q.ReadFrom(&s.reader, c.Version); err != nil {
		s.malformed(c.a, c.RequestHeader, err)
		return
	}
	s.reply(c, s.apiVersions(c, q))
}

func (s *session) apiVersions(c *call, q *wire.ApiVersionsRequest) wire.Response {
	r := wire.NewApiVersionsResponse()
	if refused := s.acquainted(c, q); refused != wire.None {
		r.ErrorCode = int16(refused)
		return r
	}
	for _, op := range slices.SortedFunc(slices.Values(operations()), byKey) {
		v := wire.Extend(&r.ApiKeys)
		v.ApiKey, v.MinVersion, v.MaxVersion = int16(op.key), op.min, op.max
		if op.key == wire.ProduceKey {
			// Not understood, but librdkafka turns compression off when it is not
			// advertised (KAFKA-18659).
			v.MinVersion = 0
		}
	}
	if c.Version >= 3 {
		s.features(c, r)
	}
	return r
}

func byKey(a, b operation) int { return cmp.Compare(a.key, b.key) }

// acquainted checks what the client says of itself, and then of us.
func (s *session) acquainted(c *call, q *wire.ApiVersionsRequest) wire.ErrorCode {
	if c.Version < 3 {
		return wire.None
	}
	if !softwareName.MatchString(q.ClientSoftwareName) || !softwareName.MatchString(q.ClientSoftwareVersion) {
		return wire.InvalidRequest
	}
	s.introduce(q)
	if c.Version < 5 {
		return wire.None
	}
	return s.expected(q)
}

// expected checks which broker the client believes to have reached (KIP-1242).
func (s *session) expected(q *wire.ApiVersionsRequest) wire.ErrorCode {
	switch {
	case q.ClusterID == nil && q.NodeID == -1:
		return wire.None
	case q.ClusterID == nil || q.NodeID == -1:
		return wire.InvalidRequest
	case *q.ClusterID != s.opts.ClusterID || q.NodeID != int32(s.opts.Self):
		return wire.RebootstrapRequired
	}
	return wire.None
}

func (s *session) features(c *call, r *wire.ApiVersionsResponse) {
	image := s.opts.Metadata.Image()
	r.FinalizedFeaturesEpoch = int64(image.End()) - 1
	for _, f := range controller.Features() {
		if c.Version >= 4 || f.Min > 0 { // Older clients refuse a minimum of 0 (KAFKA-17011).
			x := wire.Extend(&r.SupportedFeatures)
			x.Name, x.MinVersion, x.MaxVersion = f.Name, f.Min, f.Max
		}
		if level := image.Feature(f.Name); level > 0 {
			y := wire.Extend(&r.FinalizedFeatures)
			y.Name, y.MinVersionLevel, y.MaxVersionLevel = f.Name, level, level
		}
	}
}
