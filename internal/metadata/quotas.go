package metadata

import (
	"maps"
	"slices"
	"strings"

	"github.com/barnabas-log/barnabas/internal/quota"
	"github.com/barnabas-log/barnabas/wire"
)

// Quota is what is set for one entity, by Kafka's keys. It is immutable.
type Quota struct {
	Entity quota.Entity
	Values map[string]float64
}

func lessQuota(a, b *Quota) bool { return a.Entity.Compare(b.Entity) < 0 }

// Quotas calls each for every entity that has quotas, in the order of
// entities, until it returns false.
func (i *Image) Quotas(each func(*Quota) bool) {
	i.quotas.Ascend(func(q *Quota) bool { return each(q) })
}

// Quota returns what is set for an entity, or nil.
func (i *Image) Quota(e quota.Entity) map[string]float64 {
	if q, ok := i.quotas.Get(&Quota{Entity: e}); ok {
		return q.Values
	}
	return nil
}

// Limits returns the limits of users and clients of one kind, for a meter.
func (i *Image) Limits(k quota.Kind) quota.Limits {
	bounds := map[quota.Entity]float64{}
	i.Quotas(func(q *Quota) bool {
		if v, ok := q.Values[k.Key()]; ok {
			bounds[q.Entity] = v
		}
		return true
	})
	return quota.NewLimits(bounds)
}

// The entity types of Kafka's ClientQuotaRecord and of its requests.
const (
	QuotaUser     = "user"
	QuotaClientID = "client-id"
	QuotaIP       = "ip"
)

// QuotaSide returns the side of an entity that a type names, or nil for a type
// that there is not.
func QuotaSide(e *quota.Entity, entityType string) *quota.Part {
	switch entityType {
	case QuotaUser:
		return &e.User
	case QuotaClientID:
		return &e.Client
	case QuotaIP:
		return &e.IP
	}
	return nil
}

// QuotaTypes are the entity types, in the order in which Kafka names them.
func QuotaTypes() []string { return []string{QuotaClientID, QuotaUser, QuotaIP} }

// QuotaPart is a side of an entity as requests and records write it: null is
// everybody.
func QuotaPart(name *string) quota.Part {
	if name == nil {
		return quota.Everybody()
	}
	return quota.Named(*name)
}

// QuotaRecord sets a quota, or removes it when value is nil.
func QuotaRecord(e quota.Entity, key string, value *float64) *wire.ClientQuotaRecord {
	m := wire.NewClientQuotaRecord()
	m.Key, m.Remove = key, value == nil
	if value != nil {
		m.Value = *value
	}
	for _, t := range QuotaTypes() {
		p := QuotaSide(&e, t)
		if p.Absent() {
			continue
		}
		x := wire.Extend(&m.Entity)
		x.EntityType, x.EntityName = t, nil
		if name, ok := p.Name(); ok {
			x.EntityName = &name
		}
	}
	return m
}

// setQuota applies a record. It reports false for an entity that we do not
// know: the record is carried on.
func (b *builder) setQuota(m *wire.ClientQuotaRecord) bool {
	var e quota.Entity
	for i := range m.Entity {
		side := QuotaSide(&e, m.Entity[i].EntityType)
		if side == nil {
			return false
		}
		*side = QuotaPart(m.Entity[i].EntityName)
	}
	values := maps.Clone(b.Quota(e))
	if m.Remove {
		delete(values, m.Key)
	} else {
		if values == nil {
			values = map[string]float64{}
		}
		values[strings.Clone(m.Key)] = m.Value
	}
	if len(values) == 0 {
		b.quotas.Delete(&Quota{Entity: e})
	} else {
		b.quotas.ReplaceOrInsert(&Quota{e.Clone(), values})
	}
	b.delta.Quotas = true
	return true
}

func (i *Image) snapshotQuotas(add func(wire.MetadataRecord, int16)) {
	i.Quotas(func(q *Quota) bool {
		for _, key := range slices.Sorted(maps.Keys(q.Values)) {
			add(QuotaRecord(q.Entity, key, new(q.Values[key])), 0)
		}
		return true
	})
}
