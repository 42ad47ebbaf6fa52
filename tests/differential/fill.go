package differential

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/barnabas-log/barnabas/model"
)

// scope holds what a script saved, and the version of the request that is being made.
type scope map[string]any

// fill writes JSON onto a request. Unknown fields are errors, so that no script asks less than it seems to.
func (s scope) fill(dst reflect.Value, src any) error {
	if text, ok := src.(string); ok {
		var err error
		if src, err = s.expand(text); err != nil {
			return err
		}
	}
	if src == nil {
		dst.SetZero()
		return nil
	}
	if dst.Kind() == reflect.Pointer {
		dst.Set(reflect.New(dst.Type().Elem()))
		return s.fill(dst.Elem(), src)
	}
	if dst.Type() == reflect.TypeFor[[]byte]() {
		b, err := s.bytes(src)
		dst.SetBytes(b)
		return err
	}
	switch v := src.(type) {
	case map[string]any:
		return s.fillStruct(dst, v)
	case []any:
		return s.fillSlice(dst, v)
	case bool:
		if dst.Kind() != reflect.Bool {
			return fmt.Errorf("no bool: %s", dst.Type())
		}
		dst.SetBool(v)
		return nil
	case json.Number:
		return setNumber(dst, v.String())
	case string:
		return setText(dst, v)
	}
	return setAny(dst, reflect.ValueOf(src))
}

// setAny takes a saved value of the same type.
func setAny(dst, src reflect.Value) error {
	if src.Kind() == reflect.Pointer && !src.IsNil() {
		src = src.Elem()
	}
	if !src.Type().ConvertibleTo(dst.Type()) {
		return fmt.Errorf("a %s is no %s", src.Type(), dst.Type())
	}
	dst.Set(src.Convert(dst.Type()))
	return nil
}

func setNumber(dst reflect.Value, text string) error {
	if dst.CanFloat() {
		n, err := strconv.ParseFloat(text, 64)
		dst.SetFloat(n)
		return err
	}
	if dst.CanUint() {
		n, err := strconv.ParseUint(text, 10, dst.Type().Bits())
		dst.SetUint(n)
		return err
	}
	if !dst.CanInt() {
		return fmt.Errorf("no number: %s", dst.Type())
	}
	n, err := strconv.ParseInt(text, 10, dst.Type().Bits())
	dst.SetInt(n)
	return err
}

func setText(dst reflect.Value, text string) error {
	switch {
	case dst.Type() == reflect.TypeFor[model.UUID]():
		id, err := model.ParseUUID(text)
		dst.Set(reflect.ValueOf(id))
		return err
	case dst.Kind() == reflect.String:
		dst.SetString(text)
		return nil
	}
	return setNumber(dst, text)
}

func (s scope) fillStruct(dst reflect.Value, fields map[string]any) error {
	if dst.Kind() != reflect.Struct {
		return fmt.Errorf("no struct: %s", dst.Type())
	}
	if r, ok := dst.Addr().Interface().(interface{ Reset() }); ok {
		r.Reset() // Kafka's defaults for what the script leaves out
	}
	for name, src := range fields {
		f := dst.FieldByName(name)
		if !f.IsValid() {
			return fmt.Errorf("%s has no field %s", dst.Type(), name)
		}
		if err := s.fill(f, src); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (s scope) fillSlice(dst reflect.Value, elements []any) error {
	if dst.Kind() != reflect.Slice {
		return fmt.Errorf("no list: %s", dst.Type())
	}
	dst.Set(reflect.MakeSlice(dst.Type(), len(elements), len(elements)))
	for i, e := range elements {
		if err := s.fill(dst.Index(i), e); err != nil {
			return fmt.Errorf("%d: %w", i, err)
		}
	}
	return nil
}

// expand resolves $NAME, which keeps its type, and ${NAME} and ${TEXT*TIMES} within text.
func (s scope) expand(text string) (any, error) {
	if name, ok := strings.CutPrefix(text, "$"); ok && !strings.HasPrefix(name, "{") {
		v, known := s[name]
		if !known {
			return nil, fmt.Errorf("nothing saved as %s", name)
		}
		return v, nil
	}
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, after, _ := strings.Cut(rest, "}")
		v, err := s.within(name)
		if err != nil {
			return nil, err
		}
		b.WriteString(v)
		text = after
	}
}

// within is what ${NAME} or ${TEXT*TIMES} stands for.
func (s scope) within(name string) (string, error) {
	if v, known := s[name]; known {
		return fmt.Sprint(v), nil
	}
	text, times, _ := strings.Cut(name, "*")
	n, err := strconv.Atoi(times)
	if err != nil || n < 0 {
		return "", fmt.Errorf("nothing saved as %s", name)
	}
	return strings.Repeat(text, n), nil
}

// bytes makes Records: of hex, of a batch, or of several.
func (s scope) bytes(src any) ([]byte, error) {
	switch v := src.(type) {
	case string:
		return hex.DecodeString(v)
	case map[string]any:
		return s.batch(v)
	case []any:
		all := []byte{}
		for _, e := range v {
			b, err := s.bytes(e)
			if err != nil {
				return nil, err
			}
			all = append(all, b...)
		}
		return all, nil
	}
	return nil, fmt.Errorf("no records: %T", src)
}
