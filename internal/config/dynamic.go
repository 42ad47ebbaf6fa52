package config

import (
	"fmt"
	"maps"
	"math/bits"
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"
)

// listenerOverride is a key for one listener alone: listener.name.internal.max.connections.
var listenerOverride = regexp.MustCompile(`^listener\.name\.[^.]*\.(.*)$`)

// baseKey is the key that an override for one listener stands for.
func baseKey(name string) (base string, forListener bool) {
	if m := listenerOverride.FindStringSubmatch(name); m != nil {
		return m[1], true
	}
	return name, false
}

// Readable keeps of what is stored for a broker (named), or for all, what may be in force: keys that Kafka would not have taken, and
// values that cannot be read, are left out, so that the others still count. The caller owns the map.
func Readable(stored map[string]string, named bool) map[string]string {
	readable := make(map[string]string, len(stored))
	for name, text := range stored {
		base, _ := baseKey(name)
		key, known := LookupBrokerKey(base)
		if (!known || key.Validate(text) == nil) && !nonDynamic(name) && !bareSecurity(name) && (named || !onlyPerBroker(name)) {
			readable[name] = text
		}
	}
	return readable
}

func nonDynamic(name string) bool {
	key, known := LookupBrokerKey(name)
	return known && key.ReadOnly()
}

// bareSecurity reports where a listener finds its keys and certificates, without the listener's prefix: Kafka changes those for
// single listeners only.
func bareSecurity(name string) bool {
	if name == "ssl.key.password" {
		return true
	}
	key, known := LookupBrokerKey(name)
	return known && !key.ReadOnly() && (strings.HasPrefix(name, "ssl.keystore.") || strings.HasPrefix(name, "ssl.truststore."))
}

// onlyPerBroker reports a key that may differ between brokers, and so cannot be set for all.
func onlyPerBroker(name string) bool {
	base, forListener := baseKey(name)
	if forListener {
		return !slices.Contains([]string{"max.connections", "max.connection.creation.rate", "num.network.threads"}, base)
	}
	key, known := LookupBrokerKey(base)
	return known && key.Update == PerBroker
}

// CheckDynamic tells whether configs may be all that is set, while it runs, for this broker (named) or for all brokers. It answers in
// the words of Kafka's broker, and in its order: which keys, each value alone, all values together, and whether what runs can follow.
// Its error is a [*RequestError].
func (b *Broker) CheckDynamic(configs map[string]string, named bool) error {
	err := checkDynamicKeys(configs, named)
	if err != nil {
		return err
	}
	n := &Broker{static: b.static, clusterDefaults: b.clusterDefaults, dynamic: configs, memoryBytes: b.memoryBytes}
	if !named {
		n.clusterDefaults, n.dynamic = configs, b.dynamic
	}
	n.fill()
	for _, r := range n.requirements() {
		if !r.met {
			return &RequestError{"requirement failed: " + r.message}
		}
	}
	if err := n.check(); err != nil {
		return &RequestError{err.Error()}
	}
	if n.closed() && !b.closed() {
		return &RequestError{"max.connections=0 would let nobody in, not even who wants to change it back"}
	}
	if err := b.checkChange(n); err != nil {
		return notDynamic(err)
	}
	return nil
}

func checkDynamicKeys(configs map[string]string, named bool) error {
	refuse := func(those func(string) bool, why string) error {
		if names := javaSet(configs, those); len(names) > 0 {
			return &RequestError{why + ": [" + strings.Join(names, ", ") + "]"}
		}
		return nil
	}
	if err := refuse(nonDynamic, "Cannot update these configs dynamically"); err != nil {
		return err
	}
	if err := refuse(bareSecurity, "These security configs can be dynamically updated only per-listener using the listener prefix"); err != nil {
		return err
	}
	if err := checkDynamicValues(configs); err != nil {
		return err
	}
	if !named {
		if err := refuse(onlyPerBroker, "Cannot update these configs at default cluster level, broker id must be specified"); err != nil {
			return err
		}
	}
	return checkListenerValues(configs)
}

// checkDynamicValues looks at each value alone. Keys that nobody knows may belong to a plugin of Kafka's, and are let through.
func checkDynamicValues(configs map[string]string) error {
	for _, name := range sortedKeys(configs) {
		key, known := LookupBrokerKey(name)
		if !known {
			continue
		}
		if err := key.validateDynamic(configs[name]); err != nil {
			return &RequestError{err.Error()}
		}
	}
	return nil
}

// checkListenerValues looks at the values of keys of single listeners.
func checkListenerValues(configs map[string]string) error {
	for _, name := range sortedKeys(configs) {
		key, ok := listenersKey(name)
		if !ok {
			continue
		}
		if err := key.validateDynamic(configs[name]); err != nil {
			return notDynamic(err)
		}
	}
	return nil
}

// notDynamic wraps what is wrong with a change as Kafka does, whose running parts find it.
func notDynamic(err error) error {
	return &RequestError{"Invalid value org.apache.kafka.common.config.ConfigException: " + err.Error() + " for configuration Invalid dynamic configuration"}
}

// validateDynamic is Validate for a running broker, where Kafka is stricter: what a file may say twice is refused, and classes are
// looked for.
func (k *Key) validateDynamic(text string) error {
	list := splitList(javaTrim(text))
	v, err := k.parse(text)
	switch {
	case k.Type == List && repeats(list) && (err != nil || len(v.list) < len(list)): // Lists that allow it keep what is repeated.
		return &InvalidError{"Configuration '" + k.Name + "' values must not be duplicated."}
	case err == nil && k.Type == Class && !kafkasOwn(v.text):
		return invalid(k.Name, v.text, "Class "+v.text+" could not be found.")
	}
	return err
}

func repeats(list []string) bool {
	return len(slices.Compact(slices.Sorted(slices.Values(list)))) < len(list)
}

// kafkasOwn reports the name of a class that a Kafka without plugins has; here, it stands for nothing else than what is built in.
func kafkasOwn(class string) bool {
	return class == "" || strings.HasPrefix(class, "org.apache.kafka.")
}

// checkChange refuses what a running broker cannot change to: Kafka's rules for its threads, kept because tools know them, and values
// that would contradict each other.
func (b *Broker) checkChange(n *Broker) error {
	if err := b.checkCleaners(n); err != nil {
		return err
	}
	// What contradicted itself before is not this change's fault.
	if err := n.checkRemote(); err != nil && b.checkRemote() == nil {
		return err
	}
	for _, name := range []string{
		"num.io.threads", "num.replica.fetchers", "num.recovery.threads.per.data.dir", "background.threads", "num.network.threads",
	} {
		if err := checkThreads(name, b.int(name), n.int(name)); err != nil {
			return err
		}
	}
	if err := b.checkReporters(n); err != nil {
		return err
	}
	return b.checkNewListeners(n)
}

// checkReporters refuses plugins that Kafka would have to load. Those of the file were warned of.
func (b *Broker) checkReporters(n *Broker) error {
	had, _ := b.value("metric.reporters")
	want, _ := n.value("metric.reporters")
	for _, class := range want.list {
		if !kafkasOwn(class) && !slices.Contains(had.list, class) {
			return &InvalidError{"Validation of dynamic config update of Set(metric.reporters) failed with class class kafka.server.DynamicMetricsReporters"}
		}
	}
	return nil
}

func (b *Broker) checkCleaners(n *Broker) error {
	was, will := b.int("log.cleaner.threads"), n.int("log.cleaner.threads")
	switch {
	case will < was/2:
		return &InvalidError{fmt.Sprintf("Log cleaner threads cannot be reduced to less than half the current value %d", was)}
	case will > was*2:
		return &InvalidError{fmt.Sprintf("Log cleaner threads cannot be increased to more than double the current value %d", was)}
	}
	return nil
}

func checkThreads(name string, was, will int64) error {
	failed := fmt.Sprintf("Dynamic thread count update validation failed for %s=%d, ", name, will)
	switch {
	case will < was/2:
		return &InvalidError{fmt.Sprintf("%svalue should be at least half the current value %d", failed, was)}
	case will > was*2:
		return &InvalidError{fmt.Sprintf("%svalue should not be greater than double the current value %d", failed, was)}
	}
	return nil
}

// checkRemote holds what stays on the broker's own disk of tiered topics to what is kept at all.
func (b *Broker) checkRemote() error {
	for _, r := range []struct{ local, total, lag string }{
		{"log.local.retention.ms", "log.retention.ms", "log.remote.copy.lag.ms"},
		{"log.local.retention.bytes", "log.retention.bytes", "log.remote.copy.lag.bytes"},
	} {
		total := b.int(r.total)
		if r.total == "log.retention.ms" {
			total = b.retentionMillis()
		}
		local, lag := b.int(r.local), b.int(r.lag)
		limited := total != noLimit && (total > noLimit || r.total == "log.retention.ms")
		switch {
		case limited && local == noLimit:
			return invalid(r.local, "-1", fmt.Sprintf("Value must not be -1 as %s value is set as %d.", r.total, total))
		case limited && local != takesTotal && local > total:
			return invalid(r.local, fmt.Sprint(local), fmt.Sprintf("Value must not be more than %s property value: %d", r.total, total))
		}
		kept := local
		if local == takesTotal {
			kept = total
		}
		if lag > 0 && kept >= 0 && lag > kept {
			return invalid(r.lag, fmt.Sprint(lag), fmt.Sprintf("Value must not exceed %s (effective value: %d)", r.local, kept))
		}
	}
	return nil
}

// What retention may be instead of a size or time.
const (
	noLimit    = -1
	takesTotal = -2 // of what is on the broker's own disk
)

// retentionMillis is log.retention in milliseconds, whichever of its keys was set.
func (b *Broker) retentionMillis() int64 {
	key, _ := LookupTopicKey("retention.ms")
	v, _ := b.topicDefault(&key)
	return v.int
}

// checkNewListeners keeps the listeners that run as they are: others may come and go.
func (b *Broker) checkNewListeners(n *Broker) error {
	for _, a := range b.Advertised {
		if !slices.ContainsFunc(n.Listeners, func(l Listener) bool { return l.Name == a.Name }) {
			return &InvalidError{fmt.Sprintf("Advertised listeners '%s' must be a subset of listeners '%s'", listenerNames(b.Advertised), listenerNames(n.Listeners))}
		}
	}
	for _, l := range n.Listeners {
		i := slices.IndexFunc(b.Listeners, func(old Listener) bool { return old.Name == l.Name })
		if i >= 0 && b.Listeners[i].Protocol != l.Protocol {
			return &InvalidError{"Security protocol cannot be updated for existing listener ListenerName(" + l.Name + ")"}
		}
	}
	return nil
}

func listenerNames(all []Listener) string {
	names := make([]string, len(all))
	for i, l := range all {
		names[i] = "ListenerName(" + l.Name + ")"
	}
	return "Set(" + strings.Join(names, ", ") + ")"
}

// javaSet lists those keys as java.util.HashSet prints them, since messages show such sets: by the place that each has in a table of a
// power of two.
func javaSet(configs map[string]string, those func(string) bool) []string {
	size := max(16, 1<<bits.Len(uint(max(0, len(configs)*4/3))))
	place := func(s string) uint32 {
		h := uint32(0)
		for _, unit := range utf16.Encode([]rune(s)) {
			h = 31*h + uint32(unit)
		}
		return (h ^ h>>16) & uint32(size-1)
	}
	var names []string
	for name := range maps.Keys(configs) {
		if those(name) {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := int(place(a)) - int(place(b)); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return names
}
