package broker

import "github.com/barnabas-log/barnabas/internal/telemetry"

func clientMetrics() []metric {
	of := []string{"metric", "software", "version"}
	return []metric{
		{"client_pushes_total", counter, "Pushes of client metrics (KIP-714). None although there are subscriptions: the clients have enable.metrics.push=false, or match none.", nil},
		{"client_push_bytes_total", counter, "Bytes of those pushes. Many: raise interval.ms of the subscriptions, or subscribe to less.", nil},
		{"client_push_seconds", times, "Time to read a push and add it up. Long: clients push too much at once, so subscribe to less.", nil},
		{"client_pushes_malformed_total", counter, "Pushes that could not be read. The client library that sends them has a bug.", nil},
		{"client_throttled_total", counter, "Requests of telemetry that came before the push interval was over. A client that does not wait has a bug.", nil},
		{"client_unknown_subscription_total", counter, "Pushes for a subscription that has changed: the client asks anew. Constantly many: something changes subscriptions all the time.", nil},
		{"client_instances", gauge, "Client instances that asked for a subscription lately. 0 although there are clients: they are older than KIP-714, or have enable.metrics.push=false.", nil},
		{"client_points_dropped_total", counter, "Data points that found no place, because clients push too many different metrics: subscribe to fewer.", nil},
		{"client_points_unasked_total", counter, "Data points that no subscription asks for. Rising: a client library pushes more than it was told to, or a subscription has just changed.", nil},
		{"client_counts_total", counter, "Counters that clients push, added up over all clients by metric and by their software. The metric says what it is (KIP-714 lists them).", of},
		{"client_values", mean, "Values that clients push: their sum and how many. The rate of the sum divided by the rate of the count is the mean over clients and time. Values below 0, by which clients say never, are left out.", of},
		{"client_values_max", gauge, "The greatest of these values in the last 5 to 10 minutes. Far above the mean, one client is in trouble: look at its own metrics.", of},
	}
}

func (c *collector) clients(s sink) {
	a := c.b.api
	st := a.ClientMetricsStats()
	s.count("client_pushes_total", st.Pushes.Load())
	s.count("client_push_bytes_total", st.Bytes.Load())
	s.times("client_push_seconds", st.Reads.Counts())
	s.count("client_pushes_malformed_total", st.Malformed.Load())
	s.count("client_throttled_total", st.Throttled.Load())
	s.count("client_unknown_subscription_total", st.UnknownSubscription.Load())
	s.level("client_instances", int64(a.ClientInstances()))
	all, dropped, unasked := a.ClientMetrics(c.b.opts.Now())
	s.count("client_points_dropped_total", dropped)
	s.count("client_points_unasked_total", unasked)
	for i := range all {
		c.client(s, &all[i])
	}
}

func (c *collector) client(s sink, t *telemetry.Total) {
	switch t.Kind {
	case telemetry.Delta:
		s.send("client_counts_total", t.Sum, t.Metric, t.Software, t.Version)
	case telemetry.Distribution:
		s.mean("client_values", t.Count, t.Sum, t.Metric, t.Software, t.Version)
	case telemetry.Value:
		s.mean("client_values", t.Count, t.Sum, t.Metric, t.Software, t.Version)
		s.send("client_values_max", t.Max, t.Metric, t.Software, t.Version)
	}
}
