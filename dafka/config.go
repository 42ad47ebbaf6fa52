package dafka

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/internal/mesh"
	"github.com/barnabas-log/barnabas/internal/zmtp"
	"github.com/barnabas-log/barnabas/internal/zpl"
)

// ErrConfig is the answer to a configuration that is wrong.
var ErrConfig = errors.New("dafka: bad configuration")

// Reset says where a consumer begins in a partition that it has no position in.
type Reset string

// The values of consumer/offset/reset. C takes anything but latest for earliest.
const (
	// Latest begins with what comes next, and with the record that was published
	// last before, if that is what is heard of first: as in C.
	Latest Reset = "latest"
	// AfterLatest begins with what comes next.
	AfterLatest Reset = "after-latest"
	// Earliest begins with the first record.
	Earliest Reset = "earliest"
)

// Config is what all roles read from a file. Keys that only we have are marked;
// C's nodes ignore them.
type Config struct {
	Tower struct {
		Sub, Pub string // tower/sub_address, pub_address: where towers hear and speak.
		Verbose  bool
	}
	Beacon struct {
		Sub, Pub          []string // beacon/sub_address, pub_address: of the towers, commas between.
		Address           string   // The own host; empty: towers know it.
		Bind              string   // Ours: tcp://HOST:PORT to listen on, * is any.
		Interval, Timeout time.Duration
		Verbose           bool
	}
	Producer struct {
		HeadInterval     time.Duration
		HighWatermark    int  // Messages that wait for one peer.
		TerminateUnacked bool // Close waits for nobody.
		Verbose          bool
		MinAcks          int    // Ours: how many stores must have a record; -1 is none.
		MaxRecords       int    // Ours: unacknowledged ones; then Publish waits.
		MaxBytes         int    // Ours: of them.
		BackPressure     bool   // Ours: Publish waits for slow peers, too.
		Dir              string // Ours: makes it durable.
		Sync             bool   // Ours, producer/fsync: of a durable one, records survive a power failure.
	}
	Consumer struct {
		Reset         Reset
		HighWatermark int
		Siblings      bool // Ours: topics that start with a subscribed one come, too, as in C.
		Verbose       bool
		Positions     string   // Ours: a file in which the position is kept.
		Group         string   // Ours: a Kafka group that keeps it instead, at a broker with --dafka,
		Brokers       []string // and where that is.
	}
	Store struct {
		DB            string
		HighWatermark int
		Verbose       bool
		Sync          bool          // Ours, store/fsync: acknowledge what survives a power failure.
		RetentionTime time.Duration // Ours, store/retention_ms: 0 is for ever.
		RetentionSize int64         // Ours, store/retention_bytes: of a partition; 0 is all.
		DiskPercent   int           // Ours, store/retention_disk_percent: 0 is off.
		SegmentBytes  int64         // Ours.
	}
	// Public and Secret are the mesh's keys (ours, curve/public_key and secret_key,
	// 40 characters of Z85). Without them nothing is encrypted, as in C.
	Public, Secret string

	unknown []string
}

// DefaultConfig is what C's nodes do, and what is safe where they have no choice.
func DefaultConfig() *Config {
	c := &Config{}
	c.Tower.Sub, c.Tower.Pub = "tcp://*:5556", "tcp://*:5557"
	c.Beacon.Sub, c.Beacon.Pub = []string{"tcp://127.0.0.1:5556"}, []string{"tcp://127.0.0.1:5557"}
	c.Beacon.Bind = "tcp://*:*"
	c.Beacon.Interval, c.Beacon.Timeout = time.Second, 4*time.Second
	c.Producer.HeadInterval, c.Producer.HighWatermark, c.Producer.MinAcks = time.Second, 1_000_000, 1
	c.Producer.MaxRecords, c.Producer.MaxBytes, c.Producer.Sync = 1_000_000, 256<<20, true
	c.Consumer.Reset, c.Consumer.HighWatermark, c.Consumer.Brokers = Latest, 1_000_000, []string{"127.0.0.1:9092"}
	c.Store.DB, c.Store.HighWatermark, c.Store.Sync, c.Store.SegmentBytes = "storedb", 1_000_000, true, 64<<20
	return c
}

// LoadConfig reads a ZPL file.
func LoadConfig(name string) (*Config, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	c, err := ParseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// ParseConfig reads ZPL. What it does not say has its default.
func ParseConfig(text []byte) (*Config, error) {
	root, err := zpl.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	c := DefaultConfig()
	known := map[string]bool{}
	for _, k := range c.keys() {
		known[k.path] = true
		if v, ok := root.Get(k.path); ok {
			if err := k.set(v); err != nil {
				return nil, fmt.Errorf("%w: %s = %s: %w", ErrConfig, k.path, v, err)
			}
		}
	}
	c.unknown = unknownKeys(root, "", known)
	return c, c.Check()
}

// Unknown are the keys of the file that mean nothing here. C ignores them, too;
// a program says so.
func (c *Config) Unknown() []string { return c.unknown }

func unknownKeys(s *zpl.Section, above string, known map[string]bool) (unknown []string) {
	for _, child := range s.Children {
		path := strings.TrimPrefix(above+"/"+child.Name, "/")
		if child.Value != "" && !known[path] {
			unknown = append(unknown, path)
		}
		unknown = append(unknown, unknownKeys(child, path, known)...)
	}
	return unknown
}

// Set sets one key, as a line of the file would. What keys are together, Check
// looks at.
func (c *Config) Set(path, value string) error {
	for _, k := range c.keys() {
		if k.path != path {
			continue
		}
		if err := k.set(value); err != nil {
			return fmt.Errorf("%w: %s = %s: %w", ErrConfig, path, value, err)
		}
		return nil
	}
	return fmt.Errorf("%w: there is no key %s", ErrConfig, path)
}

type key struct {
	path string
	set  func(string) error
}

func (c *Config) keys() []key {
	return []key{
		{"tower/verbose", flag(&c.Tower.Verbose)},
		{"tower/sub_address", text(&c.Tower.Sub)},
		{"tower/pub_address", text(&c.Tower.Pub)},
		{"beacon/verbose", flag(&c.Beacon.Verbose)},
		{"beacon/timeout", millis(&c.Beacon.Timeout)},
		{"beacon/interval", millis(&c.Beacon.Interval)},
		{"beacon/sub_address", list(&c.Beacon.Sub)},
		{"beacon/pub_address", list(&c.Beacon.Pub)},
		{"beacon/address", text(&c.Beacon.Address)},
		{"beacon/bind", text(&c.Beacon.Bind)},
		{"producer/verbose", flag(&c.Producer.Verbose)},
		{"producer/terminate_unacked", flag(&c.Producer.TerminateUnacked)},
		{"producer/head_interval", millis(&c.Producer.HeadInterval)},
		{"producer/high_watermark", number(&c.Producer.HighWatermark)},
		{"producer/min_acks", number(&c.Producer.MinAcks)},
		{"producer/max_unacked_records", number(&c.Producer.MaxRecords)},
		{"producer/max_unacked_bytes", number(&c.Producer.MaxBytes)},
		{"producer/back_pressure", flag(&c.Producer.BackPressure)},
		{"producer/dir", text(&c.Producer.Dir)},
		{"producer/fsync", flag(&c.Producer.Sync)},
		{"consumer/verbose", flag(&c.Consumer.Verbose)},
		{"consumer/high_watermark", number(&c.Consumer.HighWatermark)},
		{"consumer/offset/reset", c.reset},
		{"consumer/siblings", flag(&c.Consumer.Siblings)},
		{"consumer/positions", text(&c.Consumer.Positions)},
		{"consumer/group", text(&c.Consumer.Group)},
		{"consumer/brokers", list(&c.Consumer.Brokers)},
		{"store/verbose", flag(&c.Store.Verbose)},
		{"store/db", text(&c.Store.DB)},
		{"store/high_watermark", number(&c.Store.HighWatermark)},
		{"store/fsync", flag(&c.Store.Sync)},
		{"store/retention_ms", millis(&c.Store.RetentionTime)},
		{"store/retention_bytes", number(&c.Store.RetentionSize)},
		{"store/retention_disk_percent", number(&c.Store.DiskPercent)},
		{"store/segment_bytes", number(&c.Store.SegmentBytes)},
		{"curve/public_key", text(&c.Public)},
		{"curve/secret_key", text(&c.Secret)},
		{"test/verbose", flag(new(bool))}, // Of C's own tests.
	}
}

func (c *Config) reset(v string) error {
	switch r := Reset(v); r {
	case Latest, AfterLatest:
		c.Consumer.Reset = r
	default:
		c.Consumer.Reset = Earliest
	}
	return nil
}

func text(to *string) func(string) error {
	return func(v string) error { *to = v; return nil }
}

func list(to *[]string) func(string) error {
	return func(v string) error {
		*to = nil
		for e := range strings.SplitSeq(v, ",") {
			if e = strings.TrimSpace(e); e != "" {
				*to = append(*to, e)
			}
		}
		return nil
	}
}

// flag is true for any number but 0, as in C, and for the words.
func flag(to *bool) func(string) error {
	return func(v string) error {
		if n, err := strconv.Atoi(v); err == nil {
			*to = n != 0
			return nil
		}
		b, err := strconv.ParseBool(v)
		*to = b
		return errors.Unwrap(err)
	}
}

func number[N int | int64](to *N) func(string) error {
	return func(v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		*to = N(n)
		return errors.Unwrap(err)
	}
}

func millis(to *time.Duration) func(string) error {
	return func(v string) error {
		n, err := strconv.ParseInt(v, 10, 32)
		if err == nil && n < 0 {
			err = strconv.ErrRange
		}
		*to = time.Duration(n) * time.Millisecond
		return err
	}
}

// Check says what cannot work. Nodes do not start with it.
func (c *Config) Check() error {
	_, err := mesh.ParseSecurity(c.Public, c.Secret)
	for _, endpoint := range slices.Concat([]string{c.Tower.Sub, c.Tower.Pub, c.Beacon.Bind}, c.Beacon.Sub, c.Beacon.Pub) {
		err = errors.Join(err, zmtp.CheckEndpoint(endpoint))
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrConfig, err)
	}
	for _, x := range []struct {
		bad  bool
		what string
	}{
		{c.Beacon.Interval <= 0 || c.Beacon.Timeout < c.Beacon.Interval, "beacon/interval must be above 0 and not above beacon/timeout"},
		{c.Producer.HeadInterval <= 0, "producer/head_interval must be above 0"},
		{c.Producer.HighWatermark <= 0 || c.Consumer.HighWatermark <= 0 || c.Store.HighWatermark <= 0, "producer/high_watermark, consumer/high_watermark and store/high_watermark must be above 0"},
		{c.Producer.MinAcks < -1, "producer/min_acks must be -1, for none, or more"},
		{c.Producer.MaxRecords <= 0 || c.Producer.MaxBytes <= 0, "producer/max_unacked_records and max_unacked_bytes must be above 0"},
		{c.Consumer.Positions != "" && c.Consumer.Group != "", "consumer/positions and consumer/group keep the same: one of them is enough"},
		{c.Store.DiskPercent < 0 || c.Store.DiskPercent > 99, "store/retention_disk_percent must be from 0, for off, to 99"},
		{c.Store.SegmentBytes < 1<<20 || c.Store.SegmentBytes > 1<<31-1, "store/segment_bytes must be from 1 MiB to below 2 GiB"},
		{c.Store.RetentionSize < 0, "store/retention_bytes must be 0, for all, or more"},
	} {
		if x.bad {
			err = errors.Join(err, fmt.Errorf("%w: %s", ErrConfig, x.what))
		}
	}
	return err
}

// GenerateKeys makes the two keys of a mesh.
func GenerateKeys() (public, secret string) {
	p, s := zmtp.GenerateKey()
	return p.String(), s.String()
}

// node is what all roles tell their node.
func (c *Config) node(log *slog.Logger) (mesh.Options, error) {
	if err := c.Check(); err != nil {
		return mesh.Options{}, err
	}
	security, err := mesh.ParseSecurity(c.Public, c.Secret)
	return mesh.Options{
		Bind: c.Beacon.Bind, Host: c.Beacon.Address, ToTowers: c.Beacon.Sub, FromTowers: c.Beacon.Pub,
		Interval: c.Beacon.Interval, Timeout: c.Beacon.Timeout, Linger: linger, Security: security, Log: log,
	}, err
}

// linger is how long the last messages may take when a node leaves.
const linger = 2 * time.Second
