// Package wiretest makes messages for tests of the protocol. It knows how Go
// structs look and what their encoders refuse; it must never know a particular
// message.
package wiretest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"

	"github.com/barnabas-log/barnabas/wire"
)

// Versions returns the versions that m has, unstable ones included.
func Versions(m wire.Message) (lowest, highest int16) {
	has := func(v int16) bool { return !errors.Is(m.ReadFrom(new(wire.Reader), v), wire.ErrVersion) }
	for lowest = 0; !has(lowest); lowest++ {
		if lowest == math.MaxInt16 {
			panic(fmt.Sprintf("wiretest: %T has no version", m))
		}
	}
	for highest = lowest; has(highest + 1); highest++ {
	}
	return lowest, highest
}

// Fill sets the fields of m that the version has to random values, extreme
// ones among them, and those that it lacks to their defaults, unless they are
// ignorable. Null appears where the version allows it.
func Fill(rng *rand.Rand, m wire.Message, version int16) {
	m.Reset()
	fillStruct(rng, reflect.ValueOf(m).Elem(), 0)
	for {
		_, err := m.AppendTo(nil, version)
		if err == nil {
			return
		}
		refused, ok := errors.AsType[*wire.EncodeError](err)
		if !ok {
			panic(fmt.Sprintf("wiretest: %T version %d: %v", m, version, err))
		}
		mend(rng, reflect.ValueOf(m).Elem(), refused)
	}
}

func fillStruct(rng *rand.Rand, v reflect.Value, depth int) {
	for i := range v.NumField() {
		fill(rng, v.Field(i), depth)
	}
}

func fill(rng *rand.Rand, v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(number(rng))
	case reflect.Uint16, reflect.Uint32:
		v.SetUint(uint64(number(rng)) & (1<<v.Type().Bits() - 1))
	case reflect.Float64:
		v.SetFloat(rng.NormFloat64())
	case reflect.String:
		v.SetString(Text(rng))
	case reflect.Pointer:
		if rng.IntN(3) == 0 {
			v.SetZero()
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		fill(rng, v.Elem(), depth+1)
	case reflect.Struct:
		fillStruct(rng, v, depth+1)
	case reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(rng.Uint64N(256))
		}
	case reflect.Slice:
		fillSlice(rng, v, depth)
	default:
		panic("wiretest: unexpected " + v.Type().String())
	}
}

func fillSlice(rng *rand.Rand, v reflect.Value, depth int) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		v.SetBytes([]byte(Text(rng)))
		if rng.IntN(4) == 0 {
			v.SetZero()
		}
		return
	}
	n := rng.IntN(4)
	switch {
	case rng.IntN(8) == 0:
		v.SetZero()
		return
	case depth < 2 && v.Type().Elem().Kind() != reflect.Struct && rng.IntN(6) == 0:
		n = 130 // a length of two bytes as a varint
	}
	v.Set(reflect.MakeSlice(v.Type(), n, n))
	for i := range n {
		fill(rng, v.Index(i), depth+1)
	}
}

// number prefers the ends of ranges.
func number(rng *rand.Rand) int64 {
	switch rng.IntN(4) {
	case 0:
		return rng.Int64N(5) - 2
	case 1:
		return math.MinInt64 >> rng.IntN(64)
	case 2:
		return math.MaxInt64 >> rng.IntN(64)
	}
	return int64(rng.Uint64())
}

// Text returns a string that is empty, short or some hundreds of bytes long,
// not all of it ASCII.
func Text(rng *rand.Rand) string {
	n := rng.IntN(12)
	if rng.IntN(10) == 0 {
		n = rng.IntN(300)
	}
	alphabet := []rune("abcdefghijklmnopqrstuvwxyz0123456789-_.é漢😀\x00")
	s := make([]rune, n)
	for i := range s {
		s[i] = alphabet[rng.IntN(len(alphabet))]
	}
	return string(s)
}

// mend gives all fields that were refused a value that is not.
func mend(rng *rand.Rand, v reflect.Value, refused *wire.EncodeError) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			mend(rng, v.Elem(), refused)
		}
	case reflect.Slice:
		for i := range v.Len() {
			mend(rng, v.Index(i), refused)
		}
	case reflect.Struct:
		if v.Type().Name() == refused.Struct {
			mendField(rng, v, refused)
			return
		}
		for i := range v.NumField() {
			mend(rng, v.Field(i), refused)
		}
	}
}

func mendField(rng *rand.Rand, v reflect.Value, refused *wire.EncodeError) {
	f := v.FieldByName(refused.Field)
	switch {
	case !refused.Null:
		f.Set(Default(v.Type()).FieldByName(refused.Field))
	case f.Kind() == reflect.Slice && f.IsNil():
		f.Set(reflect.MakeSlice(f.Type(), 0, 0))
	case f.Kind() == reflect.Pointer && f.IsNil():
		f.Set(reflect.New(f.Type().Elem()))
		fill(rng, f.Elem(), 2)
	}
}

// Default returns a generated struct of type t with Kafka's defaults.
func Default(t reflect.Type) reflect.Value {
	p := reflect.New(t)
	p.Interface().(interface{ Reset() }).Reset()
	return p.Elem()
}
