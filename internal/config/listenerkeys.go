package config

import (
	"errors"
	"slices"
	"strings"
)

// ListenerLimits bound the connections of one listener (KIP-612). A limit that is not set is the largest number.
type ListenerLimits struct {
	MaxConnections    int
	MaxConnectionRate int // new ones per second
}

// listenerPrefix begins the keys that are about one listener: listener.name.internal.max.connections.
const listenerPrefix = "listener.name."

// listenerKeys are the broker keys that a listener may have of its own, as far as they work here.
func listenerKeys() []string { return []string{"max.connections", "max.connection.creation.rate"} }

// splitListenerKey takes a key of one listener apart.
func splitListenerKey(name string) (listener string, key Key, ok bool) {
	rest, ok := strings.CutPrefix(name, listenerPrefix)
	if !ok {
		return "", Key{}, false
	}
	for _, k := range listenerKeys() {
		if listener, ok := strings.CutSuffix(rest, "."+k); ok && listener != "" {
			key, _ := LookupBrokerKey(k)
			return listener, key, true
		}
	}
	return "", Key{}, false
}

// isListenerKey reports whether a name is a key of one listener that works here.
func isListenerKey(name string) bool {
	_, _, ok := splitListenerKey(name)
	return ok
}

// validateListenerKeys looks at the values of keys of listeners.
func validateListenerKeys(texts map[string]string) error {
	var errs []error
	for _, name := range sortedKeys(texts) {
		if _, key, ok := splitListenerKey(name); ok {
			key.Name = name
			errs = append(errs, key.Validate(texts[name]))
		}
	}
	return errors.Join(errs...)
}

// fillListenerLimits collects them by listener. The name of a listener is written in lower case within a key.
func (b *Broker) fillListenerLimits() {
	b.ListenerLimits = map[string]ListenerLimits{}
	for _, l := range b.Listeners {
		most, _ := LookupBrokerKey("max.connections")
		rate, _ := LookupBrokerKey("max.connection.creation.rate")
		b.ListenerLimits[l.Name] = ListenerLimits{b.listenerInt(l.Name, &most), b.listenerInt(l.Name, &rate)}
	}
}

// closed reports that no listener takes a connection. Kafka lets it be set, for its controllers listen elsewhere.
func (b *Broker) closed() bool {
	for _, l := range b.Listeners {
		if b.MaxConnections > 0 && b.ListenerLimits[l.Name].MaxConnections > 0 {
			return false
		}
	}
	return true
}

// unlimited is the default of limits of connections.
const unlimited = 1<<31 - 1

func (b *Broker) listenerInt(listener string, key *Key) int {
	name := listenerPrefix + strings.ToLower(listener) + "." + key.Name
	for _, m := range []map[string]string{b.dynamic, b.clusterDefaults, b.static} {
		if text, ok := m[name]; ok {
			if v, err := key.parse(text); err == nil {
				return int(v.int)
			}
		}
	}
	return unlimited
}

// withoutListenerKeys drops the names that are keys of listeners.
func withoutListenerKeys(names []string) []string { return slices.DeleteFunc(names, isListenerKey) }
