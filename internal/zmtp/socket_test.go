package zmtp

import (
	"strings"
	"testing"
)

// What is published reaches who has subscribed, whoever binds.
func TestPublish(t *testing.T) {
	for _, subscriberBinds := range []bool{false, true} {
		pub := open(t, Options{Kind: XPub})
		sub := open(t, Options{Kind: Sub})
		if subscriberBinds {
			connect(t, pub, bind(t, sub))
		} else {
			connect(t, sub, bind(t, pub))
		}
		subscribe(t, sub, "a", "bc")
		expectEvents(t, pub, "+a 1", "+bc 1")
		big := strings.Repeat("x", 1<<20)
		for _, m := range [][]string{{"abc"}, {"b"}, {"bc", "", "2"}, {"x", "a"}, {"a", big}, {"a"}} {
			send(pub, m...)
		}
		expectMessages(t, sub, "abc", "bc||2", "a|"+big, "a")
	}
}
