package metadata

import (
	"cmp"
	"maps"
	"slices"

	"github.com/barnabas-log/barnabas/wire"
)

// ScramCredential is what may be told of a user's SCRAM credential.
type ScramCredential struct {
	Mechanism  int8 // 1 is SCRAM-SHA-256, 2 is SCRAM-SHA-512
	Iterations int32
}

// ScramUsers are the users with SCRAM credentials, and their names in order.
// They are among the records that are only carried on, so all of those are
// looked through.
func (i *Image) ScramUsers() (users map[string][]ScramCredential, names []string) {
	users = map[string][]ScramCredential{}
	for _, r := range i.others {
		switch m := r.Message.(type) {
		case *wire.UserScramCredentialRecord:
			users[m.Name] = append(without(users[m.Name], m.Mechanism), ScramCredential{m.Mechanism, m.Iterations})
		case *wire.RemoveUserScramCredentialRecord:
			users[m.Name] = without(users[m.Name], m.Mechanism)
		}
	}
	maps.DeleteFunc(users, func(_ string, list []ScramCredential) bool { return len(list) == 0 })
	for _, list := range users {
		slices.SortFunc(list, func(a, b ScramCredential) int { return cmp.Compare(a.Mechanism, b.Mechanism) })
	}
	return users, slices.Sorted(maps.Keys(users))
}

func without(list []ScramCredential, mechanism int8) []ScramCredential {
	return slices.DeleteFunc(list, func(c ScramCredential) bool { return c.Mechanism == mechanism })
}
