package api

import (
	"testing"

	"github.com/barnabas-log/barnabas/internal/metadata"
)

// The configuration is made once, and anew when the metadata log changes it.
func TestConfigsAreRemembered(t *testing.T) {
	n := newNode(t)
	n.topic("t", 1)
	first := n.api.configs.In(n.Image())
	if n.topic("u", 1); n.api.configs.In(n.Image()) != first {
		t.Error("a topic made it anew")
	}
	n.change(func(*metadata.Image) ([]metadata.Record, error) {
		all := metadata.Resource{Type: metadata.ResourceBroker}
		return []metadata.Record{{Message: metadata.ConfigRecord(all, "min.insync.replicas", new("2"))}}, nil
	})
	if got := n.api.configs.In(n.Image()).Topic.MinISR; got != 2 {
		t.Errorf("min.insync.replicas is %d", got)
	}
}
