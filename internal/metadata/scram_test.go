package metadata

import (
	"fmt"
	"testing"

	"github.com/barnabas-log/barnabas/wire"
)

// Credentials of a directory that Kafka wrote are told of, as they stand.
func TestScramUsers(t *testing.T) {
	tracker := NewTracker(Empty())
	add := func(name string, mechanism int8, iterations int32) Record {
		r := wire.NewUserScramCredentialRecord()
		r.Name, r.Mechanism, r.Iterations = name, mechanism, iterations
		r.Salt, r.StoredKey, r.ServerKey = []byte{1}, []byte{2}, []byte{3}
		return Record{Message: r}
	}
	remove := func(name string, mechanism int8) Record {
		r := wire.NewRemoveUserScramCredentialRecord()
		r.Name, r.Mechanism = name, mechanism
		return Record{Message: r}
	}
	f := func(want string, records ...Record) {
		t.Helper()
		if _, err := tracker.Apply(tracker.Image().End(), records); err != nil {
			t.Fatal(err)
		}
		users, names := tracker.Image().ScramUsers()
		if got := fmt.Sprint(users, names); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	f("map[] []")
	f("map[alice:[{1 4096} {2 8192}] bob:[{1 4096}]] [alice bob]", add("bob", 1, 4096), add("alice", 2, 8192), add("alice", 1, 4096))
	f("map[alice:[{1 5000} {2 8192}]] [alice]", remove("bob", 1), remove("carol", 1), add("alice", 1, 5000))
}
