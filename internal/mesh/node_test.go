package mesh

import "testing"

// TestNextPort: a second node of the same owner binds beside the first, if that
// has a fixed port.
func TestNextPort(t *testing.T) {
	for bind, want := range map[string]string{
		"tcp://*:*": "tcp://*:*", "tcp://10.0.0.1:7000": "tcp://10.0.0.1:7001", "tcp://[::1]:7000": "tcp://[::1]:7001",
		"tcp://*:0": "tcp://*:0", "tcp://*:65535": "tcp://*:65535",
	} {
		if got := NextPort(bind); got != want {
			t.Errorf("%s: %s, want %s", bind, got, want)
		}
	}
}
