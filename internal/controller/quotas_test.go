package controller

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/quota"
)

func side(t, name string) QuotaName {
	if name == "" {
		return QuotaName{Type: t}
	}
	return QuotaName{t, &name}
}

func set(key string, v float64) QuotaOp { return QuotaOp{key, &v} }

func isHost(name string) bool { return name == "::1" || name == "localhost" }

// alter decides and applies.
func alter(t *testing.T, image *metadata.Image, changes ...QuotaChange) (*metadata.Image, []error) {
	t.Helper()
	records, errs, err := AlterQuotas(image, changes, isHost)
	if err != nil {
		t.Fatal(err)
	}
	k := metadata.NewTracker(image)
	if len(records) > 0 {
		if _, err := k.Apply(image.End(), records); err != nil {
			t.Fatal(err)
		}
	}
	return k.Image(), errs
}

func TestQuotaRefusals(t *testing.T) {
	f := func(want string, ops []QuotaOp, entity ...QuotaName) {
		t.Helper()
		image, errs := alter(t, metadata.Empty(), QuotaChange{entity, ops})
		got := ""
		if errs[0] != nil {
			got = errs[0].Error()
		}
		if got != want || want != "" && !errors.Is(errs[0], ErrInvalidRequest) {
			t.Errorf("%v %v: %q, want %q", entity, ops, got, want)
		}
		if want != "" && image.End() != 0 {
			t.Errorf("%v: refused and done", entity)
		}
	}
	empty := ""
	rate := []QuotaOp{set("producer_byte_rate", 5)}
	f("", rate, side("user", "u"))
	f("", rate, side("user", ""), side("client-id", ""))
	f("", []QuotaOp{set("connection_creation_rate", 5)}, side("ip", "::1"))
	f("", []QuotaOp{set("connection_creation_rate", 5)}, side("ip", ""))
	f("", []QuotaOp{set("request_percentage", 0.5), set("controller_mutation_rate", math.MaxFloat64)}, side("user", "u"))
	f("", []QuotaOp{{Key: "what there is not"}}, side("user", "u"))
	f("Invalid empty client quota entity", rate)
	f("Unhandled client quota entity type: planet", rate, side("planet", "x"))
	f("Empty user not supported", rate, QuotaName{"user", &empty})
	f("Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId", rate, side("ip", "::1"), side("user", "u"))
	f("nowhere is not a valid IP or resolvable host.", []QuotaOp{set("connection_creation_rate", 5)}, side("ip", "nowhere"))
	f("Invalid configuration key connection_creation_rate", []QuotaOp{set("connection_creation_rate", 5)}, side("user", "u"))
	f("Invalid configuration key producer_byte_rate", rate, side("ip", "::1"))
	f("Invalid configuration key x", []QuotaOp{set("x", 5)}, side("user", "u"))
	f("Quota producer_byte_rate must be greater than 0", []QuotaOp{set("producer_byte_rate", 0)}, side("user", "u"))
	f("Quota request_percentage must be greater than 0", []QuotaOp{set("request_percentage", -1)}, side("user", "u"))
	f("Quota request_percentage must be a finite number", []QuotaOp{set("request_percentage", math.NaN())}, side("user", "u"))
	f("Quota producer_byte_rate must be a finite number", []QuotaOp{set("producer_byte_rate", math.Inf(1))}, side("user", "u"))
	f("Quota controller_mutation_rate must be a finite number", []QuotaOp{set("controller_mutation_rate", math.Inf(-1))}, side("user", "u"))
	f("producer_byte_rate cannot be a fractional value.", []QuotaOp{set("producer_byte_rate", 1.5)}, side("user", "u"))
	f("Proposed value for producer_byte_rate is too large for a LONG.", []QuotaOp{set("producer_byte_rate", 1e30)}, side("user", "u"))
	f("Proposed value for connection_creation_rate is too large for an INT.", []QuotaOp{set("connection_creation_rate", 1e10)}, side("ip", "::1"))
	f("Ignoring duplicate entity ClientQuotaEntity(entries={client-id=null, user=u})", append(rate, rate...), side("user", "u"), side("client-id", ""))
}

// Each change stands for itself; of the same entity the first is done.
func TestQuotaChanges(t *testing.T) {
	u, c := side("user", "u"), side("client-id", "c")
	entity := quota.Entity{User: quota.Named("u"), Client: quota.Named("c")}
	image, errs := alter(
		t, metadata.Empty(),
		QuotaChange{[]QuotaName{u, c}, []QuotaOp{set("producer_byte_rate", 1), set("consumer_byte_rate", 2)}},
		QuotaChange{[]QuotaName{u}, []QuotaOp{set("producer_byte_rate", 3), set("x", 2)}},
		QuotaChange{[]QuotaName{c, u}, []QuotaOp{set("producer_byte_rate", 4)}},
	)
	if errs[0] == nil || errs[0] != errs[2] || errs[1] == nil {
		t.Errorf("%v", errs)
	}
	if d := cmp.Diff(map[string]float64{"producer_byte_rate": 1, "consumer_byte_rate": 2}, image.Quota(entity)); d != "" {
		t.Error(d)
	}
	if image.Quota(quota.Entity{User: quota.Named("u")}) != nil {
		t.Error("half of a change was done")
	}
	end := image.End()
	image, errs = alter(t, image, QuotaChange{[]QuotaName{u, c}, []QuotaOp{
		set("producer_byte_rate", 1), {Key: "consumer_byte_rate"}, {Key: "request_percentage"},
	}})
	if errs[0] != nil || image.End() != end+1 {
		t.Errorf("%v, %d records for one change", errs, image.End()-end)
	}
	if d := cmp.Diff(map[string]float64{"producer_byte_rate": 1}, image.Quota(entity)); d != "" {
		t.Error(d)
	}
}

func TestTooManyQuotas(t *testing.T) {
	changes := make([]QuotaChange, maxQuotaRecords+1)
	for i := range changes {
		name := strings.Repeat("x", i%100) + string(rune('a'+i/100))
		changes[i] = QuotaChange{[]QuotaName{side("user", name)}, []QuotaOp{set("producer_byte_rate", 1)}}
	}
	if _, _, err := AlterQuotas(metadata.Empty(), changes, isHost); !errors.Is(err, ErrPolicy) {
		t.Errorf("%v", err)
	}
}

func TestQuotaFilter(t *testing.T) {
	type part struct {
		entityType string
		match      int8
		name       *string
	}
	everything := []quota.Entity{
		{User: quota.Named("u")},
		{User: quota.Everybody()},
		{User: quota.Named("u"), Client: quota.Named("c")},
		{Client: quota.Named("c")},
		{IP: quota.Named("::1")},
	}
	f := func(strict bool, want []int, parts ...part) {
		t.Helper()
		q := QuotaFilter{Strict: strict}
		for _, p := range parts {
			if err := q.Add(p.entityType, p.match, p.name); err != nil {
				t.Fatal(err)
			}
		}
		var got []int
		for i, e := range everything {
			if q.Matches(e) {
				got = append(got, i)
			}
		}
		if d := cmp.Diff(want, got); d != "" || q.Check() != nil {
			t.Errorf("%v: %v, %s", parts, q.Check(), d)
		}
	}
	f(false, []int{0, 1, 2, 3, 4})
	f(true, nil)
	f(false, []int{0, 2}, part{"user", matchExact, new("u")})
	f(true, []int{0}, part{"user", matchExact, new("u")})
	f(false, []int{1}, part{"user", matchDefault, nil})
	f(false, []int{0, 1, 2}, part{"user", matchAny, nil})
	f(true, []int{0, 1}, part{"user", matchAny, nil})
	f(true, []int{2}, part{"user", matchAny, nil}, part{"client-id", matchExact, new("c")})
	f(false, []int{4}, part{"ip", matchAny, nil})
	f(false, nil, part{"user", matchExact, new("nobody")})

	refused := func(why error, message string, parts ...part) {
		t.Helper()
		var q QuotaFilter
		var err error
		for _, p := range parts {
			if err = q.Add(p.entityType, p.match, p.name); err != nil {
				break
			}
		}
		if err == nil {
			err = q.Check()
		}
		if !errors.Is(err, why) || err.Error() != message {
			t.Errorf("%v: %v", parts, err)
		}
	}
	refused(ErrInvalidRequest, "Invalid empty entity type.", part{"", matchAny, nil})
	refused(ErrInvalidRequest, "Entity type user cannot appear more than once in the filter.", part{"user", matchAny, nil}, part{"user", matchAny, nil})
	refused(ErrUnsupported, "Unsupported entity type planet", part{"planet", matchAny, nil})
	refused(ErrInvalidRequest, "Unknown match type 7", part{"user", 7, nil})
	refused(ErrInvalidRequest, "Request specified MATCH_TYPE_EXACT, but set match string to null.", part{"user", matchExact, nil})
	refused(ErrInvalidRequest, "Request specified MATCH_TYPE_DEFAULT, but also specified a match string.", part{"user", matchDefault, new("x")})
	refused(ErrInvalidRequest, "Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.", part{"user", matchAny, new("x")})
	refused(ErrInvalidRequest, "Invalid entity filter component combination. IP filter component should not be used with user or clientId filter component.",
		part{"user", matchAny, nil}, part{"ip", matchAny, nil})
}

// TestEntitiesApart: entities whose text is the same are not the same entity.
func TestEntitiesApart(t *testing.T) {
	name := func(s string) *string { return &s }
	op := []QuotaOp{{Key: "producer_byte_rate", Value: new(1.0)}}
	image := metadata.Empty()
	changes := []QuotaChange{
		{[]QuotaName{{"user", nil}}, op},
		{[]QuotaName{{"user", name("null")}}, op},
		{[]QuotaName{{"user", name("a, client-id=b")}}, op},
		{[]QuotaName{{"user", name("a")}, {"client-id", name("b")}}, op},
	}
	records, errs, err := AlterQuotas(image, changes, nil)
	if err != nil || len(records) != len(changes) {
		t.Errorf("%d records, %v, %v", len(records), errs, err)
	}
	changes = []QuotaChange{changes[3], {[]QuotaName{{"client-id", name("b")}, {"user", name("a")}}, op}}
	if _, errs, _ = AlterQuotas(image, changes, nil); errs[1] == nil {
		t.Error("one entity in two orders was taken twice")
	}
}
