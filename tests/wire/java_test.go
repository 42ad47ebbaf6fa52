package wire_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/barnabas-log/barnabas/wire"
	"github.com/barnabas-log/barnabas/wire/wiretest"
)

// sample is one message in one version.
type sample struct {
	name    string
	version int16
	bytes   []byte
	message wire.Message // as read from bytes, so that ignorable fields are gone
}

// samples fills every message in every version n times.
func samples(t *testing.T, n int) []sample {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var all []sample
	for _, name := range wire.MessageNames() {
		lowest, highest := wiretest.Versions(wire.NewMessage(name))
		for version := lowest; version <= highest; version++ {
			for range n {
				m := wire.NewMessage(name)
				wiretest.Fill(rng, m, version)
				b, err := m.AppendTo(nil, version)
				if err != nil {
					t.Fatalf("%s %d: %v", name, version, err)
				}
				if err := wire.ReadExactly(wire.NewReader(b), m, version); err != nil {
					t.Fatalf("%s %d: %v", name, version, err)
				}
				all = append(all, sample{name, version, b, m})
			}
		}
	}
	return all
}

// Kafka's own classes read what we write, field by field, and write the same.
func TestKafkaClasses(t *testing.T) {
	t.Parallel()
	all := samples(t, 4)
	var in bytes.Buffer
	for _, s := range all {
		fmt.Fprintf(&in, "%s %d %x\n", s.name, s.version, s.bytes)
	}
	answers := echo(t, &in)
	if len(answers) != len(all) {
		t.Fatalf("%d answers to %d messages", len(answers), len(all))
	}
	failed := map[string]bool{}
	for i, s := range all {
		if err := compareEcho(s, answers[i]); err != nil && !failed[s.name] {
			failed[s.name] = true // one report for each message will do
			t.Errorf("%s %d: %v\n%x", s.name, s.version, err, s.bytes)
		}
	}
	t.Logf("%d messages", len(all))
}

func compareEcho(s sample, answer string) error {
	f := strings.SplitN(answer, " ", 3)
	if f[0] != "ok" {
		return fmt.Errorf("Kafka says: %s", answer)
	}
	if f[1] != hex.EncodeToString(s.bytes) {
		return fmt.Errorf("Kafka writes %s", f[1])
	}
	d := json.NewDecoder(strings.NewReader(f[2]))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return err
	}
	return compareJSON(s.name, reflect.ValueOf(s.message).Elem(), tree)
}

// compareJSON compares v with what Kafka's JSON converter made of the same
// bytes. A field that is missing there must have its default here.
func compareJSON(path string, v reflect.Value, tree any) error {
	switch v.Kind() {
	case reflect.Struct:
		return compareObject(path, v, tree)
	case reflect.Pointer:
		if v.IsNil() != (tree == nil) {
			return fmt.Errorf("%s: %v, Kafka has %v", path, v, tree)
		}
		if v.IsNil() {
			return nil
		}
		return compareJSON(path, v.Elem(), tree)
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			return compareArray(path, v, tree)
		}
		if v.IsNil() != (tree == nil) {
			return fmt.Errorf("%s: %v, Kafka has %v", path, v, tree)
		}
		if strings.HasSuffix(path, "Records") && tree == "" {
			return nil // the converter shows all records so; their bytes are compared as bytes
		}
		tree, v = or(tree, ""), reflect.ValueOf(base64.StdEncoding.EncodeToString(v.Bytes()))
	}
	if have, want := fmt.Sprint(v.Interface()), fmt.Sprint(tree); have != want && !sameFloat(v, want) {
		return fmt.Errorf("%s: %s, Kafka has %s", path, have, want)
	}
	return nil
}

func or(v, instead any) any {
	if v == nil {
		return instead
	}
	return v
}

func sameFloat(v reflect.Value, s string) bool {
	var f float64
	_, err := fmt.Sscan(s, &f)
	return err == nil && v.Kind() == reflect.Float64 && f == v.Float()
}

func compareArray(path string, v reflect.Value, tree any) error {
	list, ok := tree.([]any)
	if v.IsNil() && tree == nil {
		return nil
	}
	if !ok || v.IsNil() || len(list) != v.Len() {
		return fmt.Errorf("%s: %v, Kafka has %v", path, v, tree)
	}
	for i, x := range list {
		if err := compareJSON(fmt.Sprintf("%s[%d]", path, i), v.Index(i), x); err != nil {
			return err
		}
	}
	return nil
}

func compareObject(path string, v reflect.Value, tree any) error {
	object, ok := tree.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: an object, Kafka has %v", path, tree)
	}
	byName := map[string]any{}
	for name, x := range object {
		name = strings.ToLower(name)
		if path == "FindCoordinatorRequest" && name == "key" {
			name = "coordinatorkey"
		}
		byName[name] = x
	}
	defaults := wiretest.Default(v.Type())
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		x, present := byName[strings.ToLower(name)]
		delete(byName, strings.ToLower(name))
		if !present {
			if have := v.Field(i); !isDefault(have, defaults.Field(i)) {
				return fmt.Errorf("%s.%s: %v, Kafka has the default", path, name, have)
			}
			continue
		}
		if err := compareJSON(path+"."+name, v.Field(i), x); err != nil {
			return err
		}
	}
	if len(byName) != 0 {
		return fmt.Errorf("%s: Kafka has %v besides", path, byName)
	}
	return nil
}

func isDefault(v, d reflect.Value) bool {
	if v.Kind() == reflect.Slice && d.Len() == 0 {
		return v.Len() == 0
	}
	return reflect.DeepEqual(v.Interface(), d.Interface())
}

// Kafka takes the same bytes for a request header as we do, in every version,
// and agrees on the header of the answer.
func TestKafkaHeaders(t *testing.T) {
	t.Parallel()
	client := "a client, é"
	var headers []wire.RequestHeader
	for _, api := range wire.APIs() {
		for version := api.MinVersion; version <= api.MaxVersion; version++ {
			for _, id := range []*string{nil, &client} {
				headers = append(headers, wire.RequestHeader{Key: api.Key, Version: version, CorrelationID: int32(len(headers)), ClientID: id})
			}
		}
	}
	var in bytes.Buffer
	for _, h := range headers {
		fmt.Fprintf(&in, "?header 0 %x\n", append(wire.AppendRequestHeader(nil, h), "the body"...))
	}
	answers := echo(t, &in)
	if len(answers) != len(headers) {
		t.Fatalf("%d answers to %d headers", len(answers), len(headers))
	}
	for i, h := range headers {
		id := "" // Kafka makes that of null, to have a name for its metrics
		if h.ClientID != nil {
			id = *h.ClientID
		}
		tags := len(wire.AppendResponseHeader(nil, h.Key, h.Version, 0)) - 4
		want := fmt.Sprintf("ok %d %d %d %s 8 %d", h.Key, h.Version, h.CorrelationID, id, tags)
		if answers[i] != want {
			t.Errorf("%v %d: Kafka says %q, want %q", h.Key, h.Version, answers[i], want)
		}
	}
}

// echo pipes lines through Kafka's classes.
func echo(t *testing.T, in *bytes.Buffer) []string {
	t.Helper()
	jars := kafkaJars(t)
	classes := t.TempDir()
	compile := exec.Command("javac", "-nowarn", "-cp", filepath.Join(jars, "*"), "-d", classes, "java/Echo.java")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("javac: %v\n%s", err, out)
	}
	cmd := exec.Command("java", "-Xmx256m", "-XX:+UseSerialGC", "-cp", classes+string(os.PathListSeparator)+filepath.Join(jars, "*"), "Echo")
	cmd.Stdin = in
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("java: %v\n%s", err, &stderr)
	}
	var lines []string
	sc := bufio.NewScanner(bytes.NewReader(out))
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		lines = append(lines, sc.Text())
	}
	return lines
}

// kafkaJars returns the directory of Kafka's jars, or skips; with CI=true it
// fails instead.
func kafkaJars(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("sh", "../../tools/wiregen/generate.sh", "-jars")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		_, err = exec.LookPath("javac")
	}
	if err != nil {
		message := fmt.Sprintf("NOT RUN: no Kafka classes to compare with: %v\n%s", err, &stderr)
		if os.Getenv("CI") == "true" {
			t.Fatal(message)
		}
		t.Skip(message)
	}
	return strings.TrimSpace(string(out))
}
