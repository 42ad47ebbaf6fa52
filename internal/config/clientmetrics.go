package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// clientMetricsRows holds the configs of client metrics subscriptions (KIP-714) of Kafka 4.4.0, in the order of its
// DescribeConfigs answer.
func clientMetricsRows() []row {
	return []row{
		{
			"metrics", List, "", distinct(), 0, works,
			"Beginnings of the names of the metrics that clients push; * is all, and nothing none.",
		},
		{
			"interval.ms", Int, "300000", nil, 0, works,
			"Time between two pushes of a client.",
		},
		{
			"match", List, "", distinct(), 0, works,
			"Whom the subscription is for, as key=regular expression of client_id, client_instance_id, client_software_name and the like; nothing is everybody.",
		},
	}
}

// Limits of interval.ms.
const (
	leastPushInterval = 100
	mostPushInterval  = 3_600_000
)

// CheckClientMetrics looks at all configs of a subscription together, as Kafka's controller does. Its error is an [*InvalidError]
// or a [*RequestError].
func CheckClientMetrics(configs map[string]string) error {
	for _, name := range sortedKeys(configs) {
		if _, ok := LookupClientMetricsKey(name); !ok {
			return &RequestError{"Unknown client metrics configuration: " + name}
		}
	}
	v := make(values)
	for _, key := range clientMetricsTable().keys {
		text, set := configs[key.Name]
		if !set {
			continue
		}
		parsed, err := key.parse(text)
		if err != nil {
			return err
		}
		v[key.Name] = parsed
	}
	if interval, set := v["interval.ms"]; set && (interval.int < leastPushInterval || interval.int > mostPushInterval) {
		return &RequestError{fmt.Sprintf("Invalid value %d for interval.ms, interval must be between %d and %d (1 hour)",
			interval.int, leastPushInterval, mostPushInterval)}
	}
	for _, pattern := range v.list("match") {
		if _, _, ok := ParseMatch(pattern); !ok {
			return &InvalidError{"Illegal client matching pattern: " + pattern}
		}
	}
	return nil
}

// ParseMatch reads one element of match: whose value must match the pattern, and the pattern. It is Go's regular expression, which
// has no look-around and no back references, as Java's has.
func ParseMatch(element string) (param string, pattern *regexp.Regexp, ok bool) {
	name, text, found := strings.Cut(element, "=")
	name = strings.TrimSpace(name)
	if !found || strings.TrimRight(text, "=") == "" || strings.Contains(strings.TrimRight(text, "="), "=") || !slices.Contains([]string{
		"client_instance_id", "client_id", "client_software_name", "client_software_version", "client_source_address", "client_source_port",
	}, name) {
		return "", nil, false
	}
	pattern, err := regexp.Compile("^(?:" + strings.TrimSpace(strings.TrimRight(text, "=")) + ")$")
	return name, pattern, err == nil
}
