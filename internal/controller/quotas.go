package controller

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/quota"
)

// QuotaName is one side of an entity as a client names it: a type, and a name
// or nil for everybody who has no quota of their own.
type QuotaName struct {
	Type string
	Name *string
}

// QuotaOp sets a quota of an entity, or removes it when Value is nil.
type QuotaOp struct {
	Key   string
	Value *float64
}

// QuotaChange is what somebody wants of one entity. No type is named twice.
type QuotaChange struct {
	Entity []QuotaName
	Ops    []QuotaOp
}

// maxQuotaRecords is how many records fit one atomic batch of Kafka's.
const maxQuotaRecords = 10_000

// AlterQuotas decides about the quotas of several entities. The errors stand
// beside the changes; the last one refuses everything. Of changes of the same
// entity the first is carried out, and all are answered with the error of the
// last, as in Kafka. isHost tells whether the name of an address is one.
func AlterQuotas(image *metadata.Image, changes []QuotaChange, isHost func(string) bool) ([]metadata.Record, []error, error) {
	var records []metadata.Record
	result := map[string]error{} // By entity.
	for _, c := range changes {
		key := c.Key()
		if _, again := result[key]; again || namesKeyTwice(c.Ops) {
			result[key] = refuse(ErrInvalidRequest, "Ignoring duplicate entity %s", c)
			continue
		}
		made, err := alterQuota(image, c, isHost)
		result[key] = err
		records = append(records, made...)
	}
	if len(records) > maxQuotaRecords {
		return nil, nil, refuse(ErrPolicy, "Excessively large number of records per request.")
	}
	errs := make([]error, len(changes))
	for i, c := range changes {
		errs[i] = result[c.Key()]
	}
	return records, errs, nil
}

func namesKeyTwice(ops []QuotaOp) bool {
	seen := make(map[string]bool, len(ops))
	for _, o := range ops {
		if seen[o.Key] {
			return true
		}
		seen[o.Key] = true
	}
	return false
}

// Sorted are the sides of the entity in the order in which Kafka names them:
// that of its hash table.
func (c QuotaChange) Sorted() []QuotaName {
	order := func(n QuotaName) int { return slices.Index(metadata.QuotaTypes(), n.Type) }
	return slices.SortedStableFunc(slices.Values(c.Entity), func(a, b QuotaName) int { return order(a) - order(b) })
}

// Key is the same for the same entity, and for no other: the text of String may be, for a name may be null or have commas.
func (c QuotaChange) Key() string {
	var b strings.Builder
	for _, n := range c.Sorted() {
		b.WriteString(strconv.Quote(n.Type))
		if n.Name != nil {
			b.WriteString("=" + strconv.Quote(*n.Name))
		}
	}
	return b.String()
}

// String names the entity as Kafka writes it.
func (c QuotaChange) String() string {
	var parts []string
	for _, n := range c.Sorted() {
		name := "null"
		if n.Name != nil {
			name = *n.Name
		}
		parts = append(parts, n.Type+"="+name)
	}
	return "ClientQuotaEntity(entries={" + strings.Join(parts, ", ") + "})"
}

// alterQuota changes one entity, as a whole or not at all.
func alterQuota(image *metadata.Image, c QuotaChange, isHost func(string) bool) ([]metadata.Record, error) {
	e, err := quotaEntity(c.Entity)
	if err != nil {
		return nil, err
	}
	if err := checkEntity(e, isHost); err != nil {
		return nil, err
	}
	var records []metadata.Record
	current := image.Quota(e)
	for _, o := range c.Ops {
		was, set := current[o.Key]
		if o.Value == nil {
			if set {
				records = append(records, metadata.Record{Message: metadata.QuotaRecord(e, o.Key, nil)})
			}
			continue
		}
		if err := checkQuota(e, o.Key, *o.Value); err != nil {
			return nil, err
		}
		if !set || was != *o.Value {
			records = append(records, metadata.Record{Message: metadata.QuotaRecord(e, o.Key, o.Value)})
		}
	}
	return records, nil
}

func quotaEntity(names []QuotaName) (quota.Entity, error) {
	var e quota.Entity
	if len(names) == 0 {
		return e, refuse(ErrInvalidRequest, "Invalid empty client quota entity")
	}
	for _, n := range names {
		side := metadata.QuotaSide(&e, n.Type)
		if side == nil {
			return e, refuse(ErrInvalidRequest, "Unhandled client quota entity type: %s", n.Type)
		}
		if n.Name != nil && *n.Name == "" {
			return e, refuse(ErrInvalidRequest, "Empty %s not supported", n.Type)
		}
		*side = metadata.QuotaPart(n.Name)
	}
	return e, nil
}

func checkEntity(e quota.Entity, isHost func(string) bool) error {
	if e.IP.Absent() {
		return nil
	}
	if !e.User.Absent() || !e.Client.Absent() {
		return refuse(ErrInvalidRequest, "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId")
	}
	if name, ok := e.IP.Name(); ok && !isHost(name) {
		return refuse(ErrInvalidRequest, "%s is not a valid IP or resolvable host.", name)
	}
	return nil
}

// checkQuota refuses a key that is none of the entity's, and a value that its
// type cannot say.
func checkQuota(e quota.Entity, key string, v float64) error {
	kind, ok := quota.KindOf(key)
	if !ok || (kind == quota.Connection) == e.IP.Absent() {
		return refuse(ErrInvalidRequest, "Invalid configuration key %s", key)
	}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return refuse(ErrInvalidRequest, "Quota %s must be a finite number", key)
	}
	if v <= 0 {
		return refuse(ErrInvalidRequest, "Quota %s must be greater than 0", key)
	}
	switch kind {
	case quota.Produce, quota.Fetch:
		return checkWhole(key, v, math.MaxInt64, "a LONG")
	case quota.Connection:
		return checkWhole(key, v, math.MaxInt32, "an INT")
	}
	return nil
}

func checkWhole(key string, v, most float64, typ string) error {
	if v > most {
		return refuse(ErrInvalidRequest, "Proposed value for %s is too large for %s.", key, typ)
	}
	if math.Mod(v, 1) > 1e-6 {
		return refuse(ErrInvalidRequest, "%s cannot be a fractional value.", key)
	}
	return nil
}

// QuotaFilter is what somebody wants to know of quotas.
type QuotaFilter struct {
	parts map[string]*quota.Part // By type; nil is any entity that has the side.
	// Strict leaves out entities that have other sides, too.
	Strict bool
}

// The ways in which a filter names a side of an entity, by Kafka's numbers.
const (
	matchExact   = 0
	matchDefault = 1
	matchAny     = 2
)

// Add adds what one side of an entity must be.
func (f *QuotaFilter) Add(entityType string, match int8, name *string) error {
	var e quota.Entity
	_, again := f.parts[entityType]
	switch {
	case entityType == "":
		return refuse(ErrInvalidRequest, "Invalid empty entity type.")
	case again:
		return refuse(ErrInvalidRequest, "Entity type %s cannot appear more than once in the filter.", entityType)
	case metadata.QuotaSide(&e, entityType) == nil:
		return refuse(ErrUnsupported, "Unsupported entity type %s", entityType)
	}
	part, err := filterPart(match, name)
	if err != nil {
		return err
	}
	if f.parts == nil {
		f.parts = map[string]*quota.Part{}
	}
	f.parts[entityType] = part
	return nil
}

func filterPart(match int8, name *string) (*quota.Part, error) {
	word := map[int8]string{matchDefault: "MATCH_TYPE_DEFAULT", matchAny: "MATCH_TYPE_SPECIFIED"}[match]
	switch {
	case match == matchExact && name == nil:
		return nil, refuse(ErrInvalidRequest, "Request specified MATCH_TYPE_EXACT, but set match string to null.")
	case match == matchExact:
		return new(quota.Named(*name)), nil
	case word == "":
		return nil, refuse(ErrInvalidRequest, "Unknown match type %d", match)
	case name != nil:
		return nil, refuse(ErrInvalidRequest, "Request specified %s, but also specified a match string.", word)
	case match == matchDefault:
		return new(quota.Everybody()), nil
	}
	return nil, nil
}

// Check refuses what no entity can match.
func (f *QuotaFilter) Check() error {
	if _, ip := f.parts[metadata.QuotaIP]; ip && len(f.parts) > 1 {
		return refuse(ErrInvalidRequest,
			"Invalid entity filter component combination. IP filter component should not be used with user or clientId filter component.")
	}
	return nil
}

// Matches reports whether an entity is asked for.
func (f *QuotaFilter) Matches(e quota.Entity) bool {
	for _, t := range metadata.QuotaTypes() {
		side := *metadata.QuotaSide(&e, t)
		want, asked := f.parts[t]
		switch {
		case !asked && (side.Absent() || !f.Strict):
		case !asked || side.Absent():
			return false
		case want != nil && *want != side:
			return false
		}
	}
	return true
}
