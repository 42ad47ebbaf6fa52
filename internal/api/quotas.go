package api

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/quota"
	"github.com/barnabas-log/barnabas/wire"
)

// describeClientQuotas shows the quotas of the entities that a filter names
// (KIP-546).
func (s *session) describeClientQuotas(c *call, q *wire.DescribeClientQuotasRequest) wire.Response {
	r := wire.NewDescribeClientQuotasResponse()
	filter := controller.QuotaFilter{Strict: q.Strict}
	err := filterOf(q, &filter)
	if err != nil {
		r.ErrorCode, r.ErrorMessage, r.Entries = s.codeOf(err, c), message(err), nil
		return r
	}
	r.Entries = []wire.DescribeClientQuotasResponseEntryData{}
	s.opts.Metadata.Image().Quotas(func(x *metadata.Quota) bool {
		if filter.Matches(x.Entity) {
			describeQuota(x, wire.Extend(&r.Entries))
		}
		return true
	})
	return r
}

func filterOf(q *wire.DescribeClientQuotasRequest, f *controller.QuotaFilter) error {
	for i := range q.Components {
		x := &q.Components[i]
		if err := f.Add(x.EntityType, x.MatchType, x.Match); err != nil {
			return err
		}
	}
	return f.Check()
}

func describeQuota(q *metadata.Quota, out *wire.DescribeClientQuotasResponseEntryData) {
	for _, t := range metadata.QuotaTypes() {
		side := *metadata.QuotaSide(&q.Entity, t)
		if side.Absent() {
			continue
		}
		x := wire.Extend(&out.Entity)
		x.EntityType, x.EntityName = t, nil
		if name, ok := side.Name(); ok {
			x.EntityName = &name
		}
	}
	for _, key := range slices.Sorted(maps.Keys(q.Values)) {
		x := wire.Extend(&out.Values)
		x.Key, x.Value = key, q.Values[key]
	}
}

// alterQuotasMillis is how long AlterClientQuotas waits: the request does not
// say.
const alterQuotasMillis = 30_000

// alterClientQuotas changes quotas, or only says whether it would.
func (s *session) alterClientQuotas(c *call, q *wire.AlterClientQuotasRequest) wire.Response {
	r := wire.NewAlterClientQuotasResponse()
	changes := make([]controller.QuotaChange, len(q.Entries))
	hosts := map[string]bool{}
	for i := range q.Entries {
		changes[i] = quotaChange(&q.Entries[i])
		s.lookUpHosts(changes[i], hosts)
	}
	var errs []error
	err := s.propose(alterQuotasMillis, func(image *metadata.Image) (records []metadata.Record, err error) {
		records, errs, err = controller.AlterQuotas(image, changes, func(name string) bool { return hosts[name] })
		if q.ValidateOnly {
			records = nil
		}
		return records, err
	})
	said := map[string]bool{}
	for i := range changes {
		key := changes[i].Key()
		if said[key] { // One answer for each entity.
			continue
		}
		said[key] = true
		failed := err
		if err == nil {
			failed = errs[i]
		}
		s.quotaAltered(c, &changes[i], failed, wire.Extend(&r.Entries))
	}
	return r
}

func (s *session) quotaAltered(c *call, change *controller.QuotaChange, err error, out *wire.AlterClientQuotasResponseEntryData) {
	out.ErrorMessage = nil
	if err != nil {
		out.ErrorCode, out.ErrorMessage = s.codeOf(err, c), message(err)
	}
	for _, n := range change.Sorted() {
		x := wire.Extend(&out.Entity)
		x.EntityType, x.EntityName = n.Type, n.Name
	}
}

// quotaChange translates; what it keeps does not alias the frame. Of a type
// that is named twice the last name counts, as in Kafka.
func quotaChange(e *wire.AlterClientQuotasRequestEntryData) controller.QuotaChange {
	var c controller.QuotaChange
	var seen places[string]
	for i := range e.Entity {
		n := controller.QuotaName{Type: strings.Clone(e.Entity[i].EntityType)}
		if e.Entity[i].EntityName != nil {
			n.Name = new(strings.Clone(*e.Entity[i].EntityName))
		}
		if at, isNew := seen.at(n.Type); isNew {
			c.Entity = append(c.Entity, n)
		} else {
			c.Entity[at] = n
		}
	}
	for i := range e.Ops {
		o := controller.QuotaOp{Key: strings.Clone(e.Ops[i].Key)}
		if !e.Ops[i].Remove {
			o.Value = new(e.Ops[i].Value)
		}
		c.Ops = append(c.Ops, o)
	}
	return c
}

// maxHosts is how many names of hosts one request may have looked up, and
// hostTime how long each may take: the others are refused as unknown.
const (
	maxHosts = 20
	hostTime = 2 * time.Second
)

// lookUpHosts finds out which addresses of a change are hosts.
func (s *session) lookUpHosts(c controller.QuotaChange, hosts map[string]bool) {
	for _, n := range c.Entity {
		if n.Type != metadata.QuotaIP || n.Name == nil {
			continue
		}
		if _, ok := quota.ParseAddress(*n.Name); ok {
			hosts[*n.Name] = true
			continue
		}
		if _, known := hosts[*n.Name]; known || s.opts.IsHost == nil || *n.Name == "" || len(hosts) >= maxHosts {
			continue
		}
		ctx, cancel := context.WithTimeout(s.ctx, hostTime)
		hosts[*n.Name] = s.opts.IsHost(ctx, *n.Name)
		cancel()
	}
}

// Quotas in force of an image, by kind: what metrics show of them.
func (a *API) Quotas() (entities [quota.Kinds]int) {
	a.opts.Metadata.Image().Quotas(func(q *metadata.Quota) bool {
		for k := range quota.Kind(quota.Kinds) {
			if _, ok := q.Values[k.Key()]; ok {
				entities[k]++
			}
		}
		return true
	})
	return entities
}
