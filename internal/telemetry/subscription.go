package telemetry

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/internal/config"
)

// The keys of a CLIENT_METRICS resource.
const (
	metricsKey  = "metrics"
	intervalKey = "interval.ms"
	matchKey    = "match"
)

// DefaultInterval is how often clients push when no subscription says it.
const DefaultInterval = 5 * time.Minute

// allMetrics asks for everything.
const allMetrics = "*"

// Subscription is what some clients are asked for (KIP-714).
type Subscription struct {
	Name     string
	Metrics  []string // Prefixes, or "*".
	Interval time.Duration
	match    []selector
}

// selector is one condition: all have to hold.
type selector struct {
	of      func(*Identity) string
	pattern *regexp.Regexp
}

// Identity is what is known of a client, for selectors.
type Identity struct {
	Instance, ClientID, Software, Version, Address, Port string
}

// attribute finds what a selector's name stands for.
func attribute(name string) (func(*Identity) string, bool) {
	switch name {
	case "client_instance_id":
		return func(i *Identity) string { return i.Instance }, true
	case "client_id":
		return func(i *Identity) string { return i.ClientID }, true
	case "client_software_name":
		return func(i *Identity) string { return i.Software }, true
	case "client_software_version":
		return func(i *Identity) string { return i.Version }, true
	case "client_source_address":
		return func(i *Identity) string { return i.Address }, true
	case "client_source_port":
		return func(i *Identity) string { return i.Port }, true
	}
	return nil, false
}

// ParseSubscription reads the configuration of a CLIENT_METRICS resource. An
// error is about a pattern that Go's expressions do not have, or a value that
// nobody checked: such a subscription is nobody's.
func ParseSubscription(name string, configs map[string]string) (*Subscription, error) {
	s := &Subscription{Name: name, Metrics: splitList(configs[metricsKey]), Interval: DefaultInterval}
	if text, ok := configs[intervalKey]; ok {
		ms, err := config.ParseInt(text)
		if err != nil {
			return nil, fmt.Errorf("telemetry: subscription %s: %s %q", name, intervalKey, text)
		}
		s.Interval = time.Duration(ms) * time.Millisecond
	}
	for _, e := range splitList(configs[matchKey]) {
		x, err := parseSelector(e)
		if err != nil {
			return nil, fmt.Errorf("telemetry: subscription %s: %w", name, err)
		}
		s.match = append(s.match, x)
	}
	return s, nil
}

func parseSelector(text string) (selector, error) {
	name, pattern, ok := config.ParseMatch(text)
	of, known := attribute(name)
	if !ok || !known {
		return selector{}, fmt.Errorf("selector %q: it must be NAME=PATTERN, with one of the names of KIP-714 and a regular expression of Go's", text)
	}
	return selector{of, pattern}, nil
}

func splitList(text string) []string {
	var list []string
	for _, e := range strings.Split(text, ",") {
		if e = strings.TrimSpace(e); e != "" {
			list = append(list, e)
		}
	}
	return list
}

// matches reports whether a subscription is about a client.
func (s *Subscription) matches(i *Identity) bool {
	for _, x := range s.match {
		if v := x.of(i); v == "" || !x.pattern.MatchString(v) {
			return false
		}
	}
	return true
}

// wanted are the metrics that a client is asked for, and how often.
type wanted struct {
	metrics  []string // Sorted, none twice; only "*" if one of them is.
	interval time.Duration
}

// forClient puts together all subscriptions that are about a client.
func forClient(all []*Subscription, i *Identity) wanted {
	w := wanted{interval: DefaultInterval}
	for _, s := range all {
		if s.matches(i) {
			w.metrics = append(w.metrics, s.Metrics...)
			w.interval = min(w.interval, s.Interval)
		}
	}
	if slices.Contains(w.metrics, allMetrics) {
		w.metrics = []string{allMetrics}
	}
	slices.Sort(w.metrics)
	w.metrics = slices.Compact(w.metrics)
	return w
}

// has reports whether a metric was asked for.
func (w *wanted) has(name string) bool {
	return slices.ContainsFunc(w.metrics, func(m string) bool { return m == allMetrics || strings.HasPrefix(name, m) })
}
