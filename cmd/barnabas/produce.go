package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// maxLine bounds one record read from a stream, in bytes: a file without line
// ends must not become one record of all memory.
const maxLine = 64 << 20

type produceFlags struct {
	clientFlags
	separator   string
	headers     []string
	partition   int32
	compression string
	acks        string
	file        string
}

func newProduceCmd() *cobra.Command {
	f := new(produceFlags)
	cmd := f.ofTopic(&cobra.Command{
		Use:   "produce TOPIC",
		Short: "Write a record for each line of input",
		Long: `Write a record for each line of standard input, or of a file.

Records with a key go to the partition that Kafka's Java client would choose; those without fill one partition's batch and then go to another.
Unless --acks says less, the producer is idempotent: a request that is sent again after a broken connection is stored once.`,
		Example: `  echo "hello, K." | barnabas produce letters
  barnabas produce letters --key-separator : <<< 'Olga:where is the castle?'
  barnabas produce letters --file access.log --compression zstd --header source=access.log`,
	}, f.run)
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.separator, "key-separator", "", "what stands between key and value in a line; without it records have no key")
	flags.StringArrayVar(&f.headers, "header", nil, "header of every record, key=value; may be repeated")
	flags.Int32Var(&f.partition, "partition", -1, "write to this partition only")
	flags.StringVar(&f.compression, "compression", "none", "none, gzip, snappy, lz4 or zstd")
	flags.StringVar(&f.acks, "acks", "all", "0, 1 or all: who has stored a record when it counts as written")
	flags.StringVar(&f.file, "file", "", "read this file instead of standard input")
	complete(cmd, "partition", f.completePartitions)
	complete(cmd, "compression", words("none", "gzip", "snappy", "lz4", "zstd"))
	complete(cmd, "acks", words("all\tafter the data is durable", "1\tafter the leader took it", "0\twithout an answer"))
	return cmd
}

// options reads the flags.
func (f *produceFlags) options() (writerOptions, error) {
	o := writerOptions{clientFlags: f.clientFlags, partition: f.partition}
	var err error
	if o.codec, err = record.ParseCodec(f.compression); err != nil {
		return o, usage("--compression %q: want none, gzip, snappy, lz4 or zstd", f.compression)
	}
	switch f.acks {
	case "all", "-1":
		o.acks = -1
	case "0":
		o.acks = 0
	case "1":
		o.acks = 1
	default:
		return o, usage("--acks %q: want 0, 1 or all", f.acks)
	}
	if f.partition < -1 {
		return o, usage("--partition %d: want 0 or more", f.partition)
	}
	return o, nil
}

func (f *produceFlags) run(cmd *cobra.Command, topic string) (err error) {
	o, err := f.options()
	if err != nil {
		return err
	}
	headers, err := parseHeaders(f.headers)
	if err != nil {
		return err
	}
	in := cmd.InOrStdin()
	if f.file != "" {
		file, err := os.Open(f.file)
		if err != nil {
			return err
		}
		defer file.Close()
		in = file
	}
	m := f.open()
	defer m.Close()
	t, err := f.topic(cmd.Context(), m, topic)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	w, err := newWriter(ctx, cancel, m, t, o)
	if err != nil {
		return err
	}
	stop := progress(cmd.ErrOrStderr(), in, w)
	err = w.lines(interruptible(cmd.Context(), in), func(line []byte) record.Record { return f.record(line, headers) })
	err = errors.Join(err, w.close())
	stop()
	if err != nil {
		return fmt.Errorf("%s written before: %w", count(int(w.records.Load()), "record"), err)
	}
	return f.report(cmd, topic, w)
}

func (f *produceFlags) report(cmd *cobra.Command, topic string, w *writer) error {
	if f.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"topic": topic, "records": w.records.Load(), "bytes": w.bytes.Load()})
	}
	if isTerminal(cmd.ErrOrStderr()) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s written to %s\n", count(int(w.records.Load()), "record"), topic)
	}
	return nil
}

// topic waits for the topic, which the broker may have to create first.
func (f *produceFlags) topic(ctx context.Context, m *cluster.Map, name string) (cluster.Topic, error) {
	ctx, cancel := f.bounded(ctx)
	defer cancel()
	// A broker that creates topics says "unknown" once or twice before the new
	// one is there; one that does not would say so for ever.
	patience, done := context.WithTimeout(ctx, 5*time.Second)
	defer done()
	var t cluster.Topic
	err := retry(patience, func() (err error) {
		t, err = m.CreateTopic(ctx, name)
		if err == nil && len(t.Partitions) == 0 {
			err = fmt.Errorf("topic %s has no partitions: %w", name, wire.LeaderNotAvailable)
		}
		return err
	})
	return t, err
}

// record makes a record of a line.
func (f *produceFlags) record(line []byte, headers []record.Header) record.Record {
	r := record.Record{Timestamp: time.Now().UnixMilli(), Value: line, Headers: headers}
	if f.separator != "" {
		if key, value, ok := bytes.Cut(line, []byte(f.separator)); ok {
			r.Key, r.Value = key, value
		}
	}
	return r
}

func parseHeaders(words []string) ([]record.Header, error) {
	var out []record.Header
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if !ok {
			return nil, usage("--header %q: want key=value", w)
		}
		out = append(out, record.Header{Key: key, Value: []byte(value)})
	}
	return out, nil
}

// lines writes a record for each line of in, without its line end.
func (w *writer) lines(in io.Reader, make func(line []byte) record.Record) error {
	s := bufio.NewScanner(in)
	s.Buffer(nil, maxLine)
	for s.Scan() {
		if err := w.write(make(s.Bytes())); err != nil {
			return err
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("a line of more than %d bytes", maxLine)
	}
	return s.Err()
}

// progress shows on a terminal how far a long input is, unless it is typed
// there. The function returned ends that.
func progress(out io.Writer, in io.Reader, w *writer) func() {
	if !isTerminal(out) || isTerminal(in) {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		begin := time.Now()
		shown := false
		for {
			select {
			case <-quit:
				if shown {
					fmt.Fprint(out, "\r\x1b[K")
				}
				return
			case <-tick.C:
				shown = true
				seconds := cmp.Or(time.Since(begin).Seconds(), 1)
				fmt.Fprintf(out, "\r\x1b[K%s, %.1f MB/s", count(int(w.records.Load()), "record"), float64(w.bytes.Load())/1e6/seconds)
			}
		}
	}()
	return func() { close(quit); <-done }
}
