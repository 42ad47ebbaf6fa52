package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/template"
	"time"
	"unicode/utf8"

	"github.com/barnabas-log/barnabas/model"
)

// newPrinter returns what shows one record: its value as a line, or by a
// template, or as JSON.
func newPrinter(out io.Writer, topic, format string, asJSON bool) (func(partitionRecord) error, error) {
	switch {
	case asJSON && format != "":
		return nil, usage("--json and --format exclude each other")
	case asJSON:
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		return func(r partitionRecord) error { return enc.Encode(jsonOf(topic, r)) }, nil
	case format != "":
		return templatePrinter(out, topic, format)
	}
	return func(r partitionRecord) error {
		if _, err := out.Write(r.Value); err != nil {
			return err
		}
		_, err := io.WriteString(out, "\n")
		return err
	}, nil
}

// shownRecord is what a template sees.
type shownRecord struct {
	Topic     string
	Partition int32
	Offset    model.Offset
	Timestamp int64 // milliseconds since 1970
	Time      time.Time
	Key       string
	Value     string
	Headers   map[string]string // of several with one key, the last
}

func templatePrinter(out io.Writer, topic, format string) (func(partitionRecord) error, error) {
	t, err := template.New("format").Option("missingkey=zero").Parse(strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(format) + "\n")
	if err != nil {
		return nil, usage("--format: %w", err)
	}
	// A wrong name shows only when the template is carried out: better here than
	// after the first records.
	sample := strings.Repeat("0", 1<<10) // Long enough for what cuts a piece out of a value.
	if err := t.Execute(io.Discard, shownRecord{Topic: topic, Time: time.UnixMilli(0), Key: sample, Value: sample, Headers: map[string]string{}}); err != nil {
		return nil, usage("--format: %w", err)
	}
	var line bytes.Buffer // So that none is printed in half.
	return func(r partitionRecord) error {
		line.Reset()
		if err := t.Execute(&line, shownOf(topic, r)); err != nil {
			return fmt.Errorf("--format: %s-%d at %d: %w", topic, r.Partition, r.Offset, err)
		}
		_, err := out.Write(line.Bytes())
		return err
	}, nil
}

func shownOf(topic string, r partitionRecord) shownRecord {
	s := shownRecord{
		Topic: topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp,
		Time: time.UnixMilli(r.Timestamp).UTC(), Key: string(r.Key), Value: string(r.Value), Headers: map[string]string{},
	}
	for _, h := range r.Headers {
		s.Headers[h.Key] = string(h.Value)
	}
	return s
}

// jsonRecord is one line of --json. Bytes that are not UTF-8 stand in the
// fields with Base64 in their name instead.
type jsonRecord struct {
	Topic       string       `json:"topic"`
	Partition   int32        `json:"partition"`
	Offset      model.Offset `json:"offset"`
	Timestamp   int64        `json:"timestamp"`
	Key         *string      `json:"key"`
	KeyBase64   string       `json:"keyBase64,omitempty"`
	Value       *string      `json:"value"`
	ValueBase64 string       `json:"valueBase64,omitempty"`
	Headers     []jsonHeader `json:"headers,omitempty"`
}

type jsonHeader struct {
	Key         string  `json:"key"`
	Value       *string `json:"value"`
	ValueBase64 string  `json:"valueBase64,omitempty"`
}

func jsonOf(topic string, r partitionRecord) jsonRecord {
	j := jsonRecord{Topic: topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp}
	j.Key, j.KeyBase64 = text(r.Key)
	j.Value, j.ValueBase64 = text(r.Value)
	for _, h := range r.Headers {
		v, b64 := text(h.Value)
		j.Headers = append(j.Headers, jsonHeader{Key: h.Key, Value: v, ValueBase64: b64})
	}
	return j
}

func text(b []byte) (*string, string) {
	switch {
	case b == nil:
		return nil, ""
	case !utf8.Valid(b):
		return nil, base64.StdEncoding.EncodeToString(b)
	}
	s := string(b)
	return &s, ""
}
