package quota

import (
	"cmp"
	"strings"
)

// Kind is what a quota limits.
type Kind int8

// The kinds, in the order of [Kinds].
const (
	Produce    Kind = iota // Bytes per second written.
	Fetch                  // Bytes per second read.
	Request                // Percent of one core's time.
	Mutation               // Partitions per second made or deleted.
	Connection             // Connections per second opened from an address.
)

// Kinds is how many kinds there are.
const Kinds = 5

// Key returns Kafka's name of the quota, such as producer_byte_rate.
func (k Kind) Key() string {
	return [Kinds]string{"producer_byte_rate", "consumer_byte_rate", "request_percentage", "controller_mutation_rate", "connection_creation_rate"}[k]
}

// KindOf finds the kind of a key.
func KindOf(key string) (Kind, bool) {
	for k := range Kind(Kinds) {
		if k.Key() == key {
			return k, true
		}
	}
	return 0, false
}

// Entity is whom a quota is for: a user, a client id, both together, or an
// address.
type Entity struct{ User, Client, IP Part }

// Part is one side of an entity. The zero Part is absent.
type Part struct {
	is   int8
	name string
}

const (
	absent int8 = iota
	everybody
	named
)

// Everybody is the part that stands for all who have no quota of their own:
// Kafka's default entity.
func Everybody() Part { return Part{is: everybody} }

// Named is the part for one user, client id or address.
func Named(name string) Part { return Part{named, name} }

// Absent reports whether the entity does not speak of this side.
func (p Part) Absent() bool { return p.is == absent }

// Name returns the name; false for an absent part and for everybody.
func (p Part) Name() (string, bool) { return p.name, p.is == named }

// clone returns a part that aliases no foreign memory.
func (p Part) clone() Part { return Part{p.is, strings.Clone(p.name)} }

// Clone returns an entity that aliases no foreign memory.
func (e Entity) Clone() Entity { return Entity{e.User.clone(), e.Client.clone(), e.IP.clone()} }

// Compare orders entities: by user, client, address, each absent first, then
// everybody, then by name.
func (e Entity) Compare(o Entity) int {
	return cmp.Or(e.User.compare(o.User), e.Client.compare(o.Client), e.IP.compare(o.IP))
}

func (p Part) compare(o Part) int {
	return cmp.Or(cmp.Compare(p.is, o.is), strings.Compare(p.name, o.name))
}
