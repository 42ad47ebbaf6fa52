package wire_test

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/barnabas-log/barnabas/wire"
	"github.com/barnabas-log/barnabas/wire/wiretest"
)

// EachError finds every error code of an answer, wherever it stands.
func TestEachError(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	found := 0
	for _, api := range wire.APIs() {
		for range 20 {
			r := api.NewRequest().NewResponse()
			wiretest.Fill(rng, r, api.MaxVersion)
			var got, want []wire.ErrorCode
			r.EachError(func(e wire.ErrorCode) { got = append(got, e) })
			codes(reflect.ValueOf(r).Elem(), &want)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", api.Name, got, want)
			}
			found += len(got)
		}
	}
	if found < 1000 {
		t.Errorf("only %d codes were looked for", found)
	}
}

// codes finds them by the names of fields.
func codes(v reflect.Value, all *[]wire.ErrorCode) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			codes(v.Elem(), all)
		}
	case reflect.Slice:
		for i := range v.Len() {
			codes(v.Index(i), all)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			if f.Kind() == reflect.Int16 && strings.HasSuffix(v.Type().Field(i).Name, "ErrorCode") && f.Int() != 0 {
				*all = append(*all, wire.ErrorCode(f.Int()))
			}
			codes(f, all)
		}
	}
}
