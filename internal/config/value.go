package config

import (
	"fmt"
	"math"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// InvalidError says why a value or a name is refused, in Kafka's words: Message is the error_message of an INVALID_CONFIG answer.
type InvalidError struct{ Message string }

// Error returns the message and nothing else, because clients see it.
func (e *InvalidError) Error() string { return e.Message }

// RequestError says why a change is refused where Kafka finds the request at fault (INVALID_REQUEST), not a value.
type RequestError struct{ Message string }

// Error returns the message and nothing else, because clients see it.
func (e *RequestError) Error() string { return e.Message }

func invalid(name, value, why string) error {
	return &InvalidError{fmt.Sprintf("Invalid value %s for configuration %s: %s", value, name, why)}
}

// Validate tells whether the text is a value of this key, with Kafka's message if it is not. It looks at no other key.
func (k *Key) Validate(text string) error {
	_, err := k.parse(text)
	return err
}

// value is a parsed value: the field of its type is set.
type value struct {
	typ  Type
	bool bool
	int  int64
	num  float64
	text string
	list []string
}

// parse reads a text as Kafka's ConfigDef does: trimmed as by Java, of the key's type, within the key's limits.
func (k *Key) parse(text string) (value, error) {
	v, err := k.parseType(javaTrim(text))
	if err != nil || k.check == nil {
		return v, err
	}
	return k.check(k.Name, v)
}

func (k *Key) parseType(text string) (value, error) {
	v := value{typ: k.Type, text: text}
	switch k.Type {
	case Boolean:
		v.bool = strings.EqualFold(text, "true")
		if !v.bool && !strings.EqualFold(text, "false") {
			return v, invalid(k.Name, text, "Expected value to be either true or false")
		}
	case Int, Short, Long:
		n, err := strconv.ParseInt(text, 10, k.Type.bits())
		if err != nil {
			return v, invalid(k.Name, text, "Not a number of type "+k.Type.String())
		}
		v.int = n
	case Double:
		n, ok := parseJavaDouble(text)
		if !ok {
			return v, invalid(k.Name, text, "Not a number of type DOUBLE")
		}
		v.num = n
	case List:
		v.list = splitList(text)
	}
	return v, nil
}

// bits is the size of a whole number of this type.
func (t Type) bits() int {
	switch t {
	case Short:
		return 16
	case Int:
		return 32
	}
	return 64
}

// String prints the value as DescribeConfigs does.
func (v value) String() string {
	switch v.typ {
	case Boolean:
		return strconv.FormatBool(v.bool)
	case Int, Short, Long:
		return strconv.FormatInt(v.int, 10)
	case Double:
		return formatJavaDouble(v.num)
	case List:
		return strings.Join(v.list, ",")
	}
	return v.text
}

// javaTrim cuts what String.trim of Java cuts: everything up to and including the space, and no other white space.
func javaTrim(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return r <= ' ' })
}

// comma is what Kafka splits lists at.
var comma = regexp.MustCompile(`\s*,\s*`)

// splitList splits at commas; empty elements stay, as in Kafka, and the checks refuse them where they must.
func splitList(text string) []string {
	if text == "" {
		return nil
	}
	return comma.Split(text, -1)
}

// parseJavaDouble takes what Double.parseDouble takes: a trailing f or d, hexadecimals with an exponent, NaN and Infinity
// spelled just so; but no underscores, which Go allows in hexadecimals.
func parseJavaDouble(s string) (float64, bool) {
	digits := strings.TrimLeft(s, "+-")
	if digits != "NaN" && digits != "Infinity" && (digits == "" || !strings.ContainsRune("0123456789.", rune(digits[0]))) || strings.Contains(s, "_") {
		return 0, false
	}
	if i := len(s) - 1; strings.ContainsRune("fFdD", rune(s[i])) {
		s = s[:i]
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil || math.IsInf(n, 0) // too large is infinite in Java
}

// formatJavaDouble prints as Double.toString: plain between 0.001 and ten million, else with an exponent, always with a
// digit behind the point.
func formatJavaDouble(n float64) string {
	switch a := math.Abs(n); {
	case math.IsNaN(n):
		return "NaN"
	case math.IsInf(n, 0):
		return strings.TrimPrefix(fmt.Sprint(n), "+") + "inity"
	case a == 0 || a >= 1e-3 && a < 1e7:
		return withPoint(strconv.FormatFloat(n, 'f', -1, 64))
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(n, 'e', -1, 64), "e")
	e, _ := strconv.Atoi(exponent)
	return withPoint(mantissa) + "E" + strconv.Itoa(e)
}

func withPoint(s string) string {
	if strings.Contains(s, ".") {
		return s
	}
	return s + ".0"
}

// A check looks at a value of the right type and returns it, perhaps tidied, or says what is wrong with it.
type check func(name string, v value) (value, error)

func atLeast(least int64) check { return between(least, math.MaxInt64) }

// between checks a closed range. NaN lies in every range, because Kafka's comparisons are all false for it.
func between(least, most int64) check {
	return func(name string, v value) (value, error) {
		low, high := v.int < least, v.int > most
		if v.typ == Double {
			low, high = v.num < float64(least), v.num > float64(most)
		}
		switch {
		case low:
			return v, invalid(name, v.String(), fmt.Sprintf("Value must be at least %d", least))
		case high:
			return v, invalid(name, v.String(), fmt.Sprintf("Value must be no more than %d", most))
		}
		return v, nil
	}
}

func upToHalf(name string, v value) (value, error) {
	switch {
	case v.num < 0:
		return v, invalid(name, v.String(), "Value must be at least 0")
	case v.num > 0.5:
		return v, invalid(name, v.String(), "Value must be no more than 0.5")
	}
	return v, nil
}

func oneOf(words ...string) check {
	return func(name string, v value) (value, error) {
		if !slices.Contains(words, v.text) {
			return v, invalid(name, v.text, "String must be one of: "+strings.Join(words, ", "))
		}
		return v, nil
	}
}

func oneOfFold(words ...string) check {
	return func(name string, v value) (value, error) {
		if !slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, v.text) }) {
			return v, invalid(name, v.text, "String must be one of (case insensitive): "+strings.Join(words, ", "))
		}
		return v, nil
	}
}

// distinct drops repeated elements and refuses empty ones and, if there are words, all others.
func distinct(words ...string) check {
	return func(name string, v value) (value, error) {
		list := make([]string, 0, len(v.list))
		for _, e := range v.list {
			if !slices.Contains(list, e) {
				list = append(list, e)
			}
		}
		v.list = list
		for _, e := range list {
			if e == "" {
				return v, &InvalidError{fmt.Sprintf("Configuration '%s' values must not be empty.", name)}
			}
			if len(words) > 0 && !slices.Contains(words, e) {
				return v, invalid(name, e, "String must be one of: "+strings.Join(words, ", "))
			}
		}
		return v, nil
	}
}

// someDistinct is distinct for lists that must have an element.
func someDistinct(name string, v value) (value, error) {
	if len(v.list) == 0 {
		return v, &InvalidError{fmt.Sprintf("Configuration '%s' must not be empty. Valid values include: any non-empty value", name)}
	}
	return distinct()(name, v)
}

func notEmpty(name string, v value) (value, error) {
	if v.text == "" {
		return v, invalid(name, v.text, "String must be non-empty")
	}
	return v, nil
}

// addressOrOff takes host:port, :port, and nothing at all, which --http calls off.
func addressOrOff(name string, v value) (value, error) {
	if v.text == "" || v.text == "off" {
		v.text = ""
		return v, nil
	}
	_, port, err := net.SplitHostPort(v.text)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return v, invalid(name, v.text, "Value must be HOST:PORT, or empty for none")
	}
	return v, nil
}

func gzipLevel(name string, v value) (value, error) {
	if v.int != -1 && (v.int < 1 || v.int > 9) {
		return v, invalid(name, v.String(), "Value must be between 1 and 9 or equal to -1")
	}
	return v, nil
}

var replicaPair = regexp.MustCompile(`^([0-9]+:[0-9]+)?$`)

func throttledReplicas(name string, v value) (value, error) {
	if !slices.Equal(v.list, []string{"*"}) && slices.ContainsFunc(v.list, func(e string) bool { return !replicaPair.MatchString(e) }) {
		return v, invalid(name, "["+strings.Join(v.list, ", ")+"]", name+
			" must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...")
	}
	return v, nil
}
