package api

import (
	"testing"

	"github.com/barnabas-log/barnabas/wire"
)

// Topics that are named twice are answered once, by name and by id.
func TestMetadataMergesDuplicates(t *testing.T) {
	n := newNode(t, "durability=os")
	id := n.topic("t", 1).ID
	c := n.dial()
	f := func(q ...wire.MetadataRequestTopic) {
		t.Helper()
		req := wire.NewMetadataRequest()
		req.Topics = q
		if r := ask[*wire.MetadataResponse](c, req, 12); len(r.Topics) != 1 || r.Topics[0].ErrorCode != 0 || *r.Topics[0].Name != "t" {
			t.Errorf("%+v", r.Topics)
		}
	}
	f(wire.MetadataRequestTopic{Name: new("t")}, wire.MetadataRequestTopic{Name: new("t")})
	f(wire.MetadataRequestTopic{TopicID: id}, wire.MetadataRequestTopic{TopicID: id})
	f(wire.MetadataRequestTopic{TopicID: id}, wire.MetadataRequestTopic{Name: new("other")})
}
