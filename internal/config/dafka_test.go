package config

import "testing"

// What is stored may have white space around it, as Kafka stores it, and means what it would mean without.
func TestStoredValues(t *testing.T) {
	for text, want := range map[string]bool{"true": true, " TRUE\t": true, "false": false, "": false, "yes": false} {
		if got := Published(map[string]string{"dafka.publish": text}); got != want {
			t.Errorf("dafka.publish=%q: %v", text, got)
		}
	}
	if Published(nil) {
		t.Error("a topic without configs is published")
	}
	if n, err := ParseInt(" -7\n"); n != -7 || err != nil {
		t.Error(n, err)
	}
	if _, err := ParseInt("2147483648"); err == nil {
		t.Error("too large for an INT")
	}
}
