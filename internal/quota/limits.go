package quota

// Limits are the limits of one kind by user and client. They are never
// changed once they are in use. The zero value limits nobody.
type Limits struct {
	bounds map[Entity]float64
	levels [levels]bool // Whether bounds has any entity of that level.
}

// NewLimits returns the limits of some entities.
func NewLimits(bounds map[Entity]float64) Limits {
	l := Limits{bounds: bounds}
	for e := range bounds {
		for i := range l.levels {
			l.levels[i] = l.levels[i] || ofLevel(i, e)
		}
	}
	return l
}

// None reports whether nobody has a limit.
func (l *Limits) None() bool { return len(l.bounds) == 0 }

// levels is how many kinds of entities there are, from the most special to the
// most general: the first that has a bound for a client counts (KIP-55).
const levels = 8

// atLevel is the entity of a level that a client belongs to.
func atLevel(i int, user, client string) Entity {
	switch i {
	case 0:
		return Entity{User: Named(user), Client: Named(client)}
	case 1:
		return Entity{User: Named(user), Client: Everybody()}
	case 2:
		return Entity{User: Named(user)}
	case 3:
		return Entity{User: Everybody(), Client: Named(client)}
	case 4:
		return Entity{User: Everybody(), Client: Everybody()}
	case 5:
		return Entity{User: Everybody()}
	case 6:
		return Entity{Client: Named(client)}
	}
	return Entity{Client: Everybody()}
}

func ofLevel(i int, e Entity) bool {
	o := atLevel(i, "", "")
	return o.User.is == e.User.is && o.Client.is == e.Client.is
}

// account is whose use is counted together. What a limit of everybody counts
// is still counted for each alone.
type account struct{ user, client string }

// find returns the bound of a client and the account that it uses; false when
// nobody limits it. A client without a name is met by limits of users only.
func (l *Limits) find(user, client string) (bound float64, a account, ok bool) {
	for i := range levels {
		if !l.levels[i] {
			continue
		}
		e := atLevel(i, user, client)
		if !e.Client.Absent() && client == "" {
			continue
		}
		if bound, ok = l.bounds[e]; !ok {
			continue
		}
		if !e.User.Absent() {
			a.user = user
		}
		if !e.Client.Absent() {
			a.client = client
		}
		return bound, a, true
	}
	return 0, a, false
}
