package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/conn"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// The values are those of org.apache.kafka.common.utils.Utils.murmur2 4.4.0.
func TestMurmur2(t *testing.T) {
	f := func(key string, want uint32) {
		t.Helper()
		if got := murmur2([]byte(key)); got != want {
			t.Errorf("%q: %d, want %d", key, got, want)
		}
	}
	f("", 275646681)
	f("a", 2731586172)
	f("ab", 316155434)
	f("abc", 479470107)
	f("abcd", 2971317748)
	f("key-12345", 3342263381)
	f("über", 2576701379)
	f("The quick brown fox jumps over the lazy dog", 495243318)
}

func TestParseTime(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000).UTC()
	f := func(text string, want int64) {
		t.Helper()
		got, err := parseTime(text, now)
		if err != nil != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	f("1700000000123", 1700000000123)
	f("-90m", now.UnixMilli()-90*60_000)
	f("2023-11-14T22:13:20Z", 1700000000000)
	f("2023-11-14T23:13:20.5+01:00", 1700000000500)
	f("-5", -1)
	f("90m", -1)
	f("yesterday", -1)
	f("", -1)
}

func TestRetriable(t *testing.T) {
	f := func(err error, want bool) {
		t.Helper()
		if got := retriable(fmt.Errorf("conn: %w", err)); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
	f(wire.NotLeaderOrFollower, true)
	f(wire.MessageTooLarge, false)
	f(io.EOF, true)
	f(context.Canceled, false)
	f(conn.ErrUnsupported, false)
	f(errEnough, false)
	f(errors.New("anything"), false)
}

func TestPrinters(t *testing.T) {
	r := partitionRecord{Partition: 3, Record: record.Record{
		Offset: 7, Timestamp: 1700000000000, Key: []byte("k"), Value: []byte("v\xff"),
		Headers: []record.Header{{Key: "h", Value: []byte("1")}, {Key: "h"}},
	}}
	f := func(format string, asJSON bool, want string) {
		t.Helper()
		var out bytes.Buffer
		show, err := newPrinter(&out, "letters", format, asJSON)
		if err == nil {
			err = show(r)
		}
		if err != nil || out.String() != want+"\n" {
			t.Errorf("%q: %q, %v; want %q", format, out.String(), err, want)
		}
	}
	f("", false, "v\xff")
	f(`{{.Partition}}/{{.Offset}}\t{{.Key}}={{.Value}} {{.Headers.h}} {{.Time.Year}}`, false, "3/7\tk=v\xff  2023")
	f("", true, `{"topic":"letters","partition":3,"offset":7,"timestamp":1700000000000,"key":"k","value":null,"valueBase64":"dv8=",`+
		`"headers":[{"key":"h","value":"1"},{"key":"h","value":null}]}`)
	f(`{{slice .Value 0 2 | printf "%q"}}`, false, `"v\xff"`)
	for _, bad := range []string{"{{.Nope", "{{", "{{.Value}} {{.Nope}}", "{{range .Headers}}{{.Nope}}{{end}}{{.Offset.Nope}}"} {
		if _, err := newPrinter(io.Discard, "letters", bad, false); !isUsage(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := newPrinter(io.Discard, "letters", "x", true); !isUsage(err) {
		t.Errorf("both: %v", err)
	}
	var out bytes.Buffer
	show, err := newPrinter(&out, "letters", "before {{slice .Value 0 99}}", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := show(r); err == nil || out.Len() > 0 {
		t.Errorf("half a line: %q, %v", out.String(), err)
	}
}

func TestBrokerAddresses(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		got, err := brokerAddresses(strings.Split(text, ","))
		if want == "" && !isUsage(err) || want != "" && (err != nil || strings.Join(got, ",") != want) {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	f("a", "a:9092")
	f(" a:1 , b,", "a:1,b:9092")
	f("127.0.0.1", "127.0.0.1:9092")
	f("::1", "[::1]:9092")
	f("[::1]", "[::1]:9092")
	f("[fe80::1%eth0]:7", "[fe80::1%eth0]:7")
	f("PLAINTEXT://a:1", "a:1")
	f("", "")
	f(" ,", "")
	f("http://a:1", "")
	f("SSL://a:1", "")
	f("a:0", "")
	f("a:65536", "")
	f("a:http", "")
	f(":9092", "")
	f("a:b:c", "")
	f("a b", "")
}
