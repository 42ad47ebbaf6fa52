package broker

import "github.com/barnabas-log/barnabas/internal/bridge"

func bridgeMetrics() []metric {
	return []metric{
		{"bridge_peers", gauge, "Nodes of the Dafka mesh that the broker hears, with dafka.enable. 0 although there are some: no tower can be reached, or keys differ.", nil},
		{"bridge_partitions", gauge, "Partitions of Dafka producers that the broker stores, and partitions that it publishes. Near dafka.max.partitions: producers are about to be refused; delete topics, or raise it.", nil},
		{"bridge_stored_records_total", counter, "Records of Dafka producers that were stored. Not rising although they publish: see bridge_peers and bridge_refused_messages_total.", nil},
		{"bridge_stored_bytes_total", counter, "Bytes of the contents of those records. Compare with retention: it is what fills the disk.", nil},
		{"bridge_refused_messages_total", counter, "Messages of Dafka producers that get no partition, and records that could not be stored. Rising: the log says whose, and why.", nil},
		{"bridge_served_records_total", counter, "Records that were sent to Dafka nodes that missed them. Constantly many: the network loses messages, or consumers are slow.", nil},
		{"bridge_published_records_total", counter, "Records of topics with dafka.publish that were published. Not rising although they are produced: see bridge_peers, and the log.", nil},
		{"bridge_dropped_messages_total", counter, "Messages that did not fit the queue of a Dafka node that reads slowly. It asks for the records again: constantly many, make it faster.", nil},
		{"bridge_malformed_messages_total", counter, "Messages from the Dafka mesh that were not understood. Rising: a node speaks another version, or is hostile.", nil},
	}
}

func (c *collector) bridge(s sink) {
	var st bridge.Stats
	if b := c.b.bridge.Load(); b != nil {
		st = b.Stats()
	}
	s.level("bridge_peers", int64(st.Writer.Peers))
	s.level("bridge_partitions", int64(st.Partitions))
	s.count("bridge_stored_records_total", st.Records)
	s.count("bridge_stored_bytes_total", st.Bytes)
	s.count("bridge_refused_messages_total", st.Refused)
	s.count("bridge_served_records_total", st.Served)
	s.count("bridge_published_records_total", st.Published)
	s.count("bridge_dropped_messages_total", st.Writer.Dropped+st.Reader.Dropped)
	s.count("bridge_malformed_messages_total", st.Writer.Malformed+st.Reader.Malformed)
}
