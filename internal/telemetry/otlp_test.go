package telemetry

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The other direction, for tests: messages are their fields, one after another.

func tag(number, wire uint64) []byte { return binary.AppendUvarint(nil, number<<3|wire) }

func message(number uint64, fields ...[]byte) []byte {
	body := concat(fields...)
	return concat(tag(number, wireBytes), binary.AppendUvarint(nil, uint64(len(body))), body)
}

func concat(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func text(number uint64, s string) []byte { return message(number, []byte(s)) }

func varint(number, v uint64) []byte {
	return concat(tag(number, wireVarint), binary.AppendUvarint(nil, v))
}

func fixed64(number, v uint64) []byte {
	return binary.LittleEndian.AppendUint64(tag(number, wire64), v)
}

func double(number uint64, v float64) []byte { return fixed64(number, math.Float64bits(v)) }

// metrics wraps metrics as a client sends them.
func metrics(all ...[]byte) []byte {
	var scope [][]byte
	for _, m := range all {
		scope = append(scope, message(scopeMetrics, m))
	}
	return message(dataResources, text(1, ""), message(resourceScopes, append([][]byte{text(1, "")}, scope...)...))
}

func point(fields ...[]byte) []byte { return message(pointsField, fields...) }

// attributes are what points have besides, and nobody reads.
func attributes() []byte {
	return concat(message(7, text(1, "client_id"), message(2, text(1, "secret"))), fixed64(2, 1), fixed64(3, 2), varint(8, 0))
}

func read(t *testing.T, b []byte) []Point {
	t.Helper()
	var all []Point
	if err := ReadMetrics(b, func(p Point) { all = append(all, p) }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestReadMetrics(t *testing.T) {
	f := func(name string, want []Point, m ...[]byte) {
		t.Helper()
		if d := cmp.Diff(want, read(t, metrics(concat(m...)))); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	name := text(metricName, "m")
	number := point(attributes(), double(numberDouble, 1.5))
	negative := int64(-3)
	f("gauge", []Point{{"m", Value, 1.5, 0}}, name, text(2, "what it is"), text(3, "ms"), message(metricGauge, number))
	f("name last", []Point{{"m", Value, 1.5, 0}}, message(metricGauge, number), name)
	f("whole number", []Point{{"m", Value, -3, 0}}, name, message(metricGauge, point(fixed64(numberInt, uint64(negative)))))
	f("two points", []Point{{"m", Value, 1.5, 0}, {"m", Value, 1.5, 0}}, name, message(metricGauge, number, number))
	f("without a value", nil, name, message(metricGauge, point(attributes())))
	f("delta", []Point{{"m", Delta, 1.5, 0}}, name, message(metricSum, varint(temporalityField, 1), varint(monotonicField, 1), number))
	f("nature last", []Point{{"m", Delta, 1.5, 0}}, name, message(metricSum, number, varint(monotonicField, 1), varint(temporalityField, 1)))
	f("cumulative", []Point{{"m", Value, 1.5, 0}}, name, message(metricSum, varint(temporalityField, 2), varint(monotonicField, 1), number))
	f("falling", []Point{{"m", Value, 1.5, 0}}, name, message(metricSum, varint(temporalityField, 1), number))
	distribution := point(fixed64(distributionCount, 7), double(distributionSum, 2.5), message(6, fixed64(0x7f, 1)))
	f("histogram", []Point{{"m", Distribution, 2.5, 7}}, name, message(metricHistogram, distribution, varint(temporalityField, 1)))
	f("exponential", []Point{{"m", Distribution, 2.5, 7}}, name, message(metricExpHistogram, distribution, varint(temporalityField, 1)))
	f("cumulative histogram", nil, name, message(metricHistogram, distribution, varint(temporalityField, 2)))
	f("summary", nil, name, message(metricSummary, distribution))
	f("of the future", []Point{{"m", Value, 1.5, 0}}, name, varint(99, 5), concat(tag(98, wire32), make([]byte, 4)), message(metricGauge, number))
	f("nothing", nil)
}

func TestMalformed(t *testing.T) {
	f := func(name string, b []byte) {
		t.Helper()
		if err := ReadMetrics(b, func(Point) {}); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := metrics(text(metricName, "m"), message(metricGauge, point(double(numberDouble, 1))))
	for cut := 1; cut < len(good); cut++ {
		f("cut", good[:cut])
	}
	f("no message", varint(dataResources, 5))
	f("field 0", varint(0, 5))
	f("a group", tag(9, 3))
	f("wire type 7", tag(9, 7))
	f("a length that is none", concat(tag(1, wireBytes), binary.AppendUvarint(nil, math.MaxUint64)))
	f("a varint without end", []byte(strings.Repeat("\xff", 20)))
	f("broken summary", metrics(message(metricSummary, varint(pointsField, 1))))
}

// Whatever comes, reading ends, holds on to nothing and calls for no more
// points than there are bytes for.
func FuzzReadMetrics(f *testing.F) {
	number := point(attributes(), double(numberDouble, 1.5))
	f.Add(metrics(text(metricName, "m"), message(metricGauge, number, number)))
	f.Add(metrics(text(metricName, "m"), message(metricSum, varint(temporalityField, 1), varint(monotonicField, 1), number)))
	f.Add(metrics(text(metricName, "m"), message(metricHistogram, point(fixed64(distributionCount, 7), double(distributionSum, 2.5)), varint(temporalityField, 1))))
	f.Add(metrics(text(metricName, "m"), message(metricSummary, number)))
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		points, totals, now := 0, NewTotals(), begin
		err := ReadMetrics(b, func(p Point) {
			points++
			totals.Add(now, &Identity{Software: "fuzz", Version: "1"}, p)
		})
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
		if points > len(b) {
			t.Fatalf("%d points in %d bytes", points, len(b))
		}
		for _, x := range totals.All(now) {
			if math.IsNaN(x.Sum) && points < 2 || !cleanName(x.Metric) {
				t.Fatalf("%+v", x)
			}
		}
	})
}

// Random metrics are read as they were written.
func TestReadAnyMetrics(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var want []Point
		var all [][]byte
		for range rng.IntN(5) {
			name := strings.Repeat("n", 1+rng.IntN(20))
			var points [][]byte
			for range rng.IntN(4) {
				v := rng.NormFloat64()
				want = append(want, Point{Name: name, Kind: Delta, Value: v})
				points = append(points, point(attributes(), double(numberDouble, v)))
			}
			body := append(points, varint(temporalityField, 1), varint(monotonicField, 1))
			all = append(all, concat(message(metricSum, body...), text(metricName, name)))
		}
		if d := cmp.Diff(want, read(t, metrics(all...))); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
	}
}
