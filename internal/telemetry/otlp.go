package telemetry

import (
	"encoding/binary"
	"errors"
	"math"
)

// ErrMalformed says that a push is not OpenTelemetry metrics in protobuf.
var ErrMalformed = errors.New("telemetry: malformed metrics")

// Kind is how the values of a metric are to be added up.
type Kind int8

// The kinds of points, as far as adding them up is concerned.
const (
	// Value is a value at a moment: a gauge, a sum since the client's start, or
	// one that may fall.
	Value Kind = iota
	// Delta is what was added since the client's last push.
	Delta
	// Distribution is how many values there were since then, and their sum.
	Distribution
)

// Point is one data point of a metric.
type Point struct {
	Name  string // Aliases what was read.
	Kind  Kind
	Value float64 // Of a distribution, the sum.
	Count uint64  // Of a distribution.
}

// The fields that are read, by OpenTelemetry's numbers (opentelemetry-proto,
// metrics/v1/metrics.proto). All others are skipped.
const (
	dataResources = 1

	resourceScopes = 2

	scopeMetrics = 2

	metricName         = 1
	metricGauge        = 5
	metricSum          = 7
	metricHistogram    = 9
	metricExpHistogram = 10
	metricSummary      = 11

	pointsField      = 1
	temporalityField = 2
	monotonicField   = 3
	temporalityDelta = 1

	numberDouble = 4
	numberInt    = 6

	distributionCount = 4
	distributionSum   = 5
)

// ReadMetrics calls each for every point of a message MetricsData. It holds on
// to nothing and makes nothing larger than its input.
func ReadMetrics(b []byte, each func(Point)) error {
	return eachMessage(b, dataResources, func(b []byte) error {
		return eachMessage(b, resourceScopes, func(b []byte) error {
			return eachMessage(b, scopeMetrics, func(b []byte) error { return readMetric(b, each) })
		})
	})
}

// readMetric reads one Metric. Its name may stand behind its points.
func readMetric(b []byte, each func(Point)) error {
	var name string
	err := eachField(b, func(f field) error {
		if f.number == metricName && f.wire == wireBytes {
			name = string(f.bytes)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return eachField(b, func(f field) error {
		if f.wire != wireBytes {
			return nil
		}
		switch f.number {
		case metricGauge:
			return readNumbers(f.bytes, name, Value, each)
		case metricSum:
			return readSum(f.bytes, name, each)
		case metricHistogram, metricExpHistogram:
			return readHistogram(f.bytes, name, each)
		case metricSummary: // Since the client's start, always.
			return checkMessages(f.bytes)
		}
		return nil
	})
}

// readSum reads a Sum: what only grows and is told since the last push can be
// added up, other sums are values of a moment.
func readSum(b []byte, name string, each func(Point)) error {
	delta, monotonic, err := readNature(b)
	if err != nil {
		return err
	}
	kind := Value
	if delta && monotonic {
		kind = Delta
	}
	return readNumbers(b, name, kind, each)
}

// readHistogram reads a histogram of either kind. One since the client's start
// cannot be added to others, and tells nothing of now: it is left out.
func readHistogram(b []byte, name string, each func(Point)) error {
	delta, _, err := readNature(b)
	if err != nil {
		return err
	}
	return eachMessage(b, pointsField, func(b []byte) error {
		p := Point{Name: name, Kind: Distribution}
		err := eachField(b, func(f field) error {
			switch {
			case f.number == distributionCount && f.wire == wire64:
				p.Count = f.value
			case f.number == distributionSum && f.wire == wire64:
				p.Value = math.Float64frombits(f.value)
			}
			return nil
		})
		if err == nil && delta {
			each(p)
		}
		return err
	})
}

// readNature reads what sums and histograms say of all their points.
func readNature(b []byte) (delta, monotonic bool, err error) {
	err = eachField(b, func(f field) error {
		switch {
		case f.number == temporalityField && f.wire == wireVarint:
			delta = f.value == temporalityDelta
		case f.number == monotonicField && f.wire == wireVarint:
			monotonic = f.value != 0
		}
		return nil
	})
	return delta, monotonic, err
}

// readNumbers reads the NumberDataPoints of a gauge or a sum.
func readNumbers(b []byte, name string, kind Kind, each func(Point)) error {
	return eachMessage(b, pointsField, func(b []byte) error {
		p, has := Point{Name: name, Kind: kind}, false
		err := eachField(b, func(f field) error {
			switch {
			case f.number == numberDouble && f.wire == wire64:
				p.Value, has = math.Float64frombits(f.value), true
			case f.number == numberInt && f.wire == wire64:
				p.Value, has = float64(int64(f.value)), true
			}
			return nil
		})
		if err == nil && has {
			each(p)
		}
		return err
	})
}

// checkMessages reads a message for its form only.
func checkMessages(b []byte) error {
	return eachMessage(b, pointsField, func(b []byte) error { return eachField(b, func(field) error { return nil }) })
}

// The wire types of protobuf; groups are no longer in use.
const (
	wireVarint = 0
	wire64     = 1
	wireBytes  = 2
	wire32     = 5
)

// field is one field of a message.
type field struct {
	number uint64
	wire   uint64
	value  uint64 // Of a varint, or the bits of a fixed one.
	bytes  []byte
}

// eachMessage calls each for every field of that number, which has to be a
// message.
func eachMessage(b []byte, number uint64, each func([]byte) error) error {
	return eachField(b, func(f field) error {
		if f.number != number {
			return nil
		}
		if f.wire != wireBytes {
			return ErrMalformed
		}
		return each(f.bytes)
	})
}

// eachField reads a message to its end.
func eachField(b []byte, each func(field) error) error {
	for len(b) > 0 {
		f, rest, err := readField(b)
		if err != nil {
			return err
		}
		if err := each(f); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

func readField(b []byte) (f field, rest []byte, err error) {
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag>>3 == 0 {
		return f, nil, ErrMalformed
	}
	f.number, f.wire, b = tag>>3, tag&7, b[n:]
	switch f.wire {
	case wireVarint:
		if f.value, n = binary.Uvarint(b); n <= 0 {
			return f, nil, ErrMalformed
		}
		return f, b[n:], nil
	case wire64:
		if len(b) < 8 {
			return f, nil, ErrMalformed
		}
		f.value = binary.LittleEndian.Uint64(b)
		return f, b[8:], nil
	case wire32:
		if len(b) < 4 {
			return f, nil, ErrMalformed
		}
		f.value = uint64(binary.LittleEndian.Uint32(b))
		return f, b[4:], nil
	case wireBytes:
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return f, nil, ErrMalformed
		}
		b = b[n:]
		f.bytes = b[:size]
		return f, b[size:], nil
	}
	return f, nil, ErrMalformed
}
