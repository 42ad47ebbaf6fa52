package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Broker is the effective configuration of this broker. It is never changed: [Broker.WithDynamic] and [Broker.WithNodeID]
// give another one.
type Broker struct {
	NodeID      int32
	NodeIDGiven bool // by whoever started the broker; else the data directory may say another

	Listeners  []Listener // without those of controllers
	Advertised []Listener // by name; a listener without one answers with the address the client came in by
	LogDirs    []string
	Rack       *string // broker.rack, nil for none

	AutoCreateTopics   bool
	DeleteTopics       bool
	NumPartitions      int32
	ReplicationFactor  int16 // default.replication.factor
	MaxPartitionsShown int   // max.request.partition.size.limit, of DescribeTopicPartitions

	RequestMaxBytes     int64 // socket.request.max.bytes
	InFlightBytes       int64 // queued.max.request.bytes, or a quarter of the memory
	FetchMaxBytes       int64
	FetchSessions       int // max.incremental.fetch.session.cache.slots
	SendBufferBytes     int // -1 is the system's default
	ReceiveBufferBytes  int
	ListenBacklog       int           // -1 is the system's default
	ConnectionsMaxIdle  time.Duration // not above zero is for ever
	MaxConnections      int
	MaxConnectionsPerIP int
	PerIPOverrides      map[string]int // host → connections
	MaxConnectionRate   int            // max.connection.creation.rate: new ones per second
	ListenerLimits      map[string]ListenerLimits

	QuotaSamples      int           // quota.window.num
	QuotaSample       time.Duration // quota.window.size.seconds
	MutationSamples   int           // controller.quota.window.num
	MutationSample    time.Duration // controller.quota.window.size.seconds
	TelemetryMaxBytes int
	PartitionMetrics  bool   // metrics.partitions
	LogFormat         string // text or json
	LogLevels         string // log.level: a level, then room=level

	ProducerExpiration      time.Duration
	ProducerExpirationCheck time.Duration

	FirstTask            time.Duration // log.initial.task.delay.ms
	RetentionCheck       time.Duration
	FlushCheck           time.Duration // log.flush.scheduler.interval.ms
	RecoveryCheckpoint   time.Duration // log.flush.offset.checkpoint.interval.ms
	StartCheckpoint      time.Duration // log.flush.start.offset.checkpoint.interval.ms
	WatermarkCheckpoint  time.Duration // replica.high.watermark.checkpoint.interval.ms
	LogDirFailureTimeout time.Duration
	RecoveryThreads      int // per data directory
	Disks                Disks
	Cleaner              Cleaner
	Coordinators         Coordinators
	MetadataLog          MetadataLog
	Dafka                Dafka

	HTTPListen      string // empty is off
	HTTPListenGiven bool   // else a taken port is no error
	HTTPPprof       bool

	Topic Topic // of a topic without configs of its own

	static          map[string]string // file, environment and flags
	clusterDefaults map[string]string // set for all brokers while running
	dynamic         map[string]string // set for this broker while running
	memoryBytes     int64
	topicEntries    []Entry // of a topic that sets nothing: see describeTopics
}

// Listener is an address under a name. Host is empty for all interfaces, and without brackets for IPv6.
type Listener struct {
	Name     string
	Host     string
	Port     int
	Protocol string // PLAINTEXT, so far
}

// Address returns host:port for net.Listen and net.Dial.
func (l Listener) Address() string { return net.JoinHostPort(l.Host, strconv.Itoa(l.Port)) }

// String returns NAME://host:port.
func (l Listener) String() string { return l.Name + "://" + l.Address() }

// WithDynamic returns the broker with the configs that were set while it runs: for this broker and for all. They win over
// the static ones. Those that cannot be read are left out; an error is an [*InvalidError] about values that contradict each other.
func (b *Broker) WithDynamic(broker, all map[string]string) (*Broker, error) {
	n, err := newBroker(b.static, Readable(all, false), Readable(broker, true), b.memoryBytes)
	if err != nil {
		return nil, err
	}
	n.NodeIDGiven = b.NodeIDGiven
	return n, nil
}

// WithNodeID returns the broker under the number that its data directory holds.
func (b *Broker) WithNodeID(id int32) (*Broker, error) {
	static := maps.Clone(b.static)
	static["node.id"] = strconv.Itoa(int(id))
	static["broker.id"] = static["node.id"]
	n, err := newBroker(static, b.clusterDefaults, b.dynamic, b.memoryBytes)
	if err != nil {
		return nil, err
	}
	n.NodeIDGiven = true
	return n, nil
}

// value is the effective value of a broker key; not ok for null.
func (b *Broker) value(name string) (value, bool) {
	key, known := LookupBrokerKey(name)
	if !known {
		return value{}, false
	}
	for _, m := range []map[string]string{b.dynamic, b.clusterDefaults, b.static} {
		if text, ok := m[name]; ok {
			v, err := key.parse(text)
			return v, err == nil
		}
		if hidden(name, m) {
			break
		}
	}
	if !key.HasDefault {
		return value{}, false
	}
	v, err := key.parse(key.Default)
	return v, err == nil
}

// hidden reports whether a layer above the static one sets another key of the same meaning, which hides this one in the layers
// below: while log.retention.ms is set for a running broker, the hours of its file do not count.
func hidden(name string, layer map[string]string) bool {
	if len(layer) == 0 {
		return false
	}
	for _, key := range []string{"log.retention.ms", "log.roll.ms", "log.roll.jitter.ms", "log.flush.interval.ms"} {
		if _, set := layer[key]; set && name != key && slices.Contains(brokerSynonyms(key), name) {
			return true
		}
	}
	return false
}

func (b *Broker) int(name string) int64 {
	v, _ := b.value(name)
	return v.int
}

// intIfGiven is the value that somebody set, or -1.
func (b *Broker) intIfGiven(name string) int {
	for _, m := range []map[string]string{b.dynamic, b.clusterDefaults, b.static} {
		if _, ok := m[name]; ok {
			return int(b.int(name))
		}
	}
	return -1
}

func (b *Broker) bool(name string) bool {
	v, _ := b.value(name)
	return v.bool
}

func (b *Broker) millis(name string) time.Duration { return Millis(b.int(name)) }

// newBroker checks the texts and fills the struct.
func newBroker(static, clusterDefaults, dynamic map[string]string, memoryBytes int64) (*Broker, error) {
	b := &Broker{static: static, clusterDefaults: clusterDefaults, dynamic: dynamic, memoryBytes: memoryBytes}
	if err := errors.Join(validateAll(static), validateAll(clusterDefaults), validateAll(dynamic)); err != nil {
		return nil, err
	}
	b.fill()
	if err := b.check(); err != nil {
		return nil, err
	}
	return b, nil
}

// fill fills what needs no check but that of each value alone.
func (b *Broker) fill() {
	b.fillNumbers()
	b.fillTimes()
	b.fillCoordinators()
	b.fillCleaner()
	b.fillMetadataLog()
	b.fillDafka()
}

// check fills the rest, and looks at the values together.
func (b *Broker) check() error {
	topic, topicErr := ResolveTopic(b, nil)
	b.Topic = topic
	errs := []error{b.fillIdentity(), b.fillListeners(), b.fillPerIP(), b.checkCleaner()}
	for _, r := range b.requirements() {
		if !r.met {
			errs = append(errs, &InvalidError{r.message})
		}
	}
	b.describeTopics()
	return errors.Join(append(errs, topicErr)...)
}

// validateAll looks at each value alone. Keys that do not apply are not looked at: nobody will read their values.
func validateAll(texts map[string]string) error {
	var errs []error
	for _, name := range sortedKeys(texts) {
		if name == "broker.id" && texts[name] == texts["node.id"] {
			continue // The same, and nobody wants to read it twice.
		}
		if key, known := LookupBrokerKey(name); known && key.Status != NotApplicable {
			errs = append(errs, key.Validate(texts[name]))
		}
	}
	return errors.Join(append(errs, validateListenerKeys(texts))...)
}

func (b *Broker) fillNumbers() {
	b.AutoCreateTopics = b.bool("auto.create.topics.enable")
	b.DeleteTopics = b.bool("delete.topic.enable")
	b.NumPartitions = int32(b.int("num.partitions"))
	b.ReplicationFactor = int16(b.int("default.replication.factor"))
	b.MaxPartitionsShown = int(b.int("max.request.partition.size.limit"))
	b.RequestMaxBytes = b.int("socket.request.max.bytes")
	if b.InFlightBytes = b.int("queued.max.request.bytes"); b.InFlightBytes <= 0 {
		// A quarter: the rest is for the page cache, without which a log is slow. Never less than one request needs.
		b.InFlightBytes = max(b.memoryBytes/4, b.RequestMaxBytes)
	}
	b.FetchMaxBytes = b.int("fetch.max.bytes")
	b.FetchSessions = int(b.int("max.incremental.fetch.session.cache.slots"))
	// Kafka's default of 100 KiB stops the system from sizing a socket's buffers
	// by what the connection needs: a third of the speed with large requests. So
	// only a size that somebody asked for counts.
	b.SendBufferBytes = b.intIfGiven("socket.send.buffer.bytes")
	b.ReceiveBufferBytes = b.intIfGiven("socket.receive.buffer.bytes")
	// Kafka's 50 is few where the system allows thousands: a burst of clients would be turned away.
	b.ListenBacklog = b.intIfGiven("socket.listen.backlog.size")
	b.MaxConnections = int(b.int("max.connections"))
	b.MaxConnectionsPerIP = int(b.int("max.connections.per.ip"))
	b.RecoveryThreads = int(b.int("num.recovery.threads.per.data.dir"))
	b.MaxConnectionRate = int(b.int("max.connection.creation.rate"))
	b.QuotaSamples = int(b.int("quota.window.num"))
	b.MutationSamples = int(b.int("controller.quota.window.num"))
	b.TelemetryMaxBytes = int(b.int("telemetry.max.bytes"))
	b.PartitionMetrics = b.bool("metrics.partitions")
	b.HTTPPprof = b.bool("http.pprof")
}

func (b *Broker) fillTimes() {
	b.ConnectionsMaxIdle = b.millis("connections.max.idle.ms")
	b.ProducerExpiration = b.millis("producer.id.expiration.ms")
	b.ProducerExpirationCheck = b.millis("producer.id.expiration.check.interval.ms")
	b.RetentionCheck = b.millis("log.retention.check.interval.ms")
	b.FirstTask = b.millis("log.initial.task.delay.ms")
	b.FlushCheck = b.millis("log.flush.scheduler.interval.ms")
	b.RecoveryCheckpoint = b.millis("log.flush.offset.checkpoint.interval.ms")
	b.StartCheckpoint = b.millis("log.flush.start.offset.checkpoint.interval.ms")
	b.WatermarkCheckpoint = b.millis("replica.high.watermark.checkpoint.interval.ms")
	b.LogDirFailureTimeout = b.millis("log.dir.failure.timeout.ms")
	b.QuotaSample = time.Duration(b.int("quota.window.size.seconds")) * time.Second
	b.MutationSample = time.Duration(b.int("controller.quota.window.size.seconds")) * time.Second
}

// A requirement is a rule that several values keep together.
type requirement struct {
	met     bool
	message string // Kafka's
}

// requirements are what Kafka demands at its start and of every change, in its order.
func (b *Broker) requirements() []requirement {
	millis := func(topicKey string) int64 {
		key, _ := LookupTopicKey(topicKey)
		v, _ := b.topicDefault(&key)
		return v.int
	}
	cleaners, wait, idle := b.int("log.cleaner.threads"), b.int("replica.fetch.wait.max.ms"), b.int("connections.max.idle.ms")
	queued, delay := b.int("queued.max.request.bytes"), b.int("connection.failed.authentication.delay.ms")
	overrides, _ := b.value("max.connections.per.ip.overrides")
	nowhere := b.cordonedNowhere()
	return []requirement{
		{millis("segment.ms") >= 1, "log.roll.ms must be greater than or equal to 1"},
		{millis("segment.jitter.ms") >= 0, "log.roll.jitter.ms must be greater than or equal to 0"},
		{b.retentionMillis() != 0, "log.retention.ms must be unlimited (-1) or, greater than or equal to 1"},
		{cleaners >= 1, "log.cleaner.threads must be at least 1"}, // Kafka divides by it.
		{b.int("log.cleaner.dedupe.buffer.size")/max(cleaners, 1) > 1<<20, "log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread."},
		{
			wait <= b.int("replica.socket.timeout.ms"),
			"replica.socket.timeout.ms should always be at least replica.fetch.wait.max.ms to prevent unnecessary socket timeouts",
		},
		{
			wait <= b.int("replica.lag.time.max.ms"),
			"replica.fetch.wait.max.ms should always be less than or equal to replica.lag.time.max.ms to prevent frequent changes in ISR",
		},
		{queued <= 0 || queued >= b.RequestMaxBytes, "queued.max.request.bytes must be larger or equal to socket.request.max.bytes"},
		{
			b.MaxConnectionsPerIP > 0 || overrides.text != "",
			"max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set.",
		},
		{
			idle < 0 || delay < idle,
			fmt.Sprintf("connection.failed.authentication.delay.ms=%d should always be less than connections.max.idle.ms=%d"+
				" to prevent failed authentication responses from timing out", delay, idle),
		},
		{
			len(nowhere) == 0,
			"All entries in cordoned.log.dirs must be present in log.dirs or log.dir. Missing entries : " + strings.Join(nowhere, ", "),
		},
	}
}

func (b *Broker) fillIdentity() error {
	b.NodeID = int32(b.int("node.id"))
	if other, ok := b.static["broker.id"]; ok && int32(b.int("broker.id")) != b.NodeID {
		return &InvalidError{fmt.Sprintf("You must set `node.id` to the same value as `broker.id`: %d is not %s.", b.NodeID, other)}
	}
	b.LogDirs = b.logDirs()
	if rack, ok := b.value("broker.rack"); ok {
		b.Rack = &rack.text
	}
	http, _ := b.value("http.listen")
	b.HTTPListen = http.text
	_, b.HTTPListenGiven = b.static["http.listen"]
	format, _ := b.value("log.format")
	levels, _ := b.value("log.level")
	b.LogFormat, b.LogLevels = format.text, strings.Join(levels.list, ",")
	if len(b.LogDirs) == 0 {
		return &InvalidError{"At least one log directory must be defined via log.dirs or log.dir."}
	}
	b.fillDisks()
	return nil
}

func (b *Broker) fillPerIP() error {
	overrides, _ := b.value("max.connections.per.ip.overrides")
	b.PerIPOverrides = make(map[string]int)
	for _, o := range splitList(overrides.text) {
		i := strings.LastIndex(o, ":")
		if i < 0 {
			return invalid("max.connections.per.ip.overrides", o, "it must be host:limit")
		}
		n, err := strconv.ParseInt(o[i+1:], 10, 32)
		if err != nil || n < 0 {
			return invalid("max.connections.per.ip.overrides", o, "the limit must be a number from 0")
		}
		if !hostName.MatchString(o[:i]) {
			return &InvalidError{"max.connections.per.ip.overrides contains invalid addresses : " + o[:i]}
		}
		b.PerIPOverrides[o[:i]] = int(n)
	}
	return nil
}

func (b *Broker) fillListeners() error {
	protocols, err := b.protocols()
	if err != nil {
		return err
	}
	controllers, _ := b.value("controller.listener.names")
	read := func(key string) (all []Listener) {
		v, _ := b.value(key)
		for _, text := range v.list {
			l, e := parseListener(key, text)
			err = errors.Join(err, e)
			if e == nil && !slices.Contains(controllers.list, l.Name) {
				all = append(all, l)
			}
		}
		return all
	}
	b.Listeners, b.Advertised = read("listeners"), read("advertised.listeners")
	if err != nil {
		return err
	}
	b.fillListenerLimits()
	return errors.Join(b.checkListeners(protocols), b.checkAdvertised())
}

func (b *Broker) checkListeners(protocols map[string]string) error {
	if len(b.Listeners) == 0 {
		return &InvalidError{"listeners names no address that clients may use."}
	}
	var errs []error
	names, ports := map[string]bool{}, map[string]bool{}
	for i, l := range b.Listeners {
		protocol, ok := protocols[l.Name]
		switch {
		case !ok:
			errs = append(errs, &InvalidError{"No security protocol defined for listener " + l.Name})
		case protocol != "PLAINTEXT":
			errs = append(errs, &InvalidError{fmt.Sprintf("listener %s wants %s: only PLAINTEXT works so far, the others are not yet built", l, protocol)})
		case names[l.Name]:
			errs = append(errs, invalid("listeners", l.String(), "each listener must have a different name"))
		case l.Port != 0 && ports[l.Address()]:
			errs = append(errs, invalid("listeners", l.String(), "each listener must have a different port"))
		}
		names[l.Name], ports[l.Address()] = true, true
		b.Listeners[i].Protocol = protocol
	}
	return errors.Join(errs...)
}

func (b *Broker) checkAdvertised() error {
	for i, a := range b.Advertised {
		at := slices.IndexFunc(b.Listeners, func(l Listener) bool { return l.Name == a.Name })
		switch {
		case at < 0:
			return invalid("advertised.listeners", a.String(), "no listener has this name")
		case a.Host == "0.0.0.0" || a.Host == "::":
			return &InvalidError{"advertised.listeners cannot use the nonroutable meta-address " + a.Host + ". Use a routable IP address."}
		}
		b.Advertised[i].Protocol = b.Listeners[at].Protocol
	}
	return nil
}

// protocols reads listener.security.protocol.map. As in Kafka, controllers' listeners are plain when the map is not given.
func (b *Broker) protocols() (map[string]string, error) {
	v, _ := b.value("listener.security.protocol.map")
	m := make(map[string]string)
	for _, pair := range splitList(v.text) {
		name, protocol, ok := strings.Cut(pair, ":")
		protocol = strings.ToUpper(strings.TrimSpace(protocol))
		if !ok || !slices.Contains([]string{"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}, protocol) {
			return nil, invalid("listener.security.protocol.map", pair, "it must be NAME:PROTOCOL with a protocol of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL")
		}
		m[strings.ToUpper(strings.TrimSpace(name))] = protocol
	}
	return m, nil
}

// hostName is what Kafka takes for the name or address of a host.
var hostName = regexp.MustCompile(`^[0-9a-zA-Z\-%._:]*$`)

var listenerForm = regexp.MustCompile(`^(.*)://\[?([0-9a-zA-Z\-%._:]*)\]?:([0-9]+)$`)

func parseListener(key, text string) (Listener, error) {
	m := listenerForm.FindStringSubmatch(text)
	if m == nil {
		return Listener{}, invalid(key, text, "it must be NAME://host:port")
	}
	port, err := strconv.ParseUint(m[3], 10, 16)
	if err != nil {
		return Listener{}, invalid(key, text, "the port must be a number up to 65535")
	}
	return Listener{Name: strings.ToUpper(m[1]), Host: m[2], Port: int(port)}, nil
}
