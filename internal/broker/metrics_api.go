package broker

import (
	"github.com/barnabas-log/barnabas/internal/api"
	"github.com/barnabas-log/barnabas/wire"
)

func listenerMetrics() []metric {
	of := []string{"listener"}
	return []metric{
		{"listener_connections", gauge, "Open client connections. Near max.connections, new ones wait: raise it, or find who does not close them.", of},
		{"listener_connections_accepted_total", counter, "Connections accepted. A high rate is a client that does not keep its connections: fix that client.", of},
		{"listener_connections_refused_total", counter, "Connections closed at once, because of max.connections.per.ip or a quota of their address. Raise the limit if they were welcome.", of},
		{"listener_connections_throttled_total", counter, "Of those, the ones that came faster than connection_creation_rate of their address allows. Look who connects.", of},
		{"listener_accept_wait_seconds_total", counter, "Time that accepting waited because of max.connections or max.connection.creation.rate. It grows by 1 a second while nobody is let in: raise them.", of},
		{"listener_sent_bytes_total", counter, "Bytes sent to clients. Compare with what the network can do.", of},
		{"listener_send_seconds", times, "Time to write answers to sockets. When it is long, clients read slowly or the network is full.", of},
		{"listener_muted_connections", gauge, "Connections that are not read now because their client is over a quota. Constantly many: the quotas are too low, or the clients too many.", of},
		{"listener_mutes_total", counter, "Times a connection was muted because of a quota. Rising: quota_throttled_answers_total says which quota it is.", of},
		{"listener_frame_bytes", gauge, "Bytes of requests in memory. Near the limit reading pauses: raise queued.max.request.bytes or slow the clients.", nil},
		{"listener_frame_limit_bytes", gauge, "Bytes of requests that may be in memory. listener_frame_bytes near it: raise queued.max.request.bytes, which sets it, or give the machine more memory.", nil},
		{"listener_frame_wait_seconds", times, "Waits of requests for memory. Any at all: raise queued.max.request.bytes, or give the machine more memory.", nil},
	}
}

func (c *collector) listeners(s sink) {
	for name, l := range c.b.doors.servers() {
		st := l.Stats()
		s.level("listener_connections", st.Open.Load(), name)
		s.count("listener_connections_accepted_total", st.Accepted.Load(), name)
		s.count("listener_connections_refused_total", st.Refused.Load(), name)
		s.count("listener_connections_throttled_total", st.Throttled.Load(), name)
		s.send("listener_accept_wait_seconds_total", float64(st.WaitNanos.Load())/1e9, name)
		s.count("listener_sent_bytes_total", st.BytesOut.Load(), name)
		s.times("listener_send_seconds", st.Sends.Counts(), name)
		s.level("listener_muted_connections", st.Muted.Load(), name)
		s.count("listener_mutes_total", st.Mutes.Load(), name)
	}
	s.level("listener_frame_bytes", c.b.budget.InUse())
	s.level("listener_frame_limit_bytes", c.b.budget.Total())
	s.times("listener_frame_wait_seconds", c.b.budget.Waits.Counts())
}

func apiMetrics() []metric {
	of := []string{"api"}
	return []metric{
		{"api_requests_total", counter, "Requests by API. A jump tells which kind of client came, or went astray.", of},
		{"api_request_seconds", times, "Time from reading a request to its answer, waits included. When Produce is slow look at replicas_flush_seconds; Fetch waits for records by design.", of},
		{"api_request_work_seconds", times, "Of that, the time without waiting. When it rises with the load the node is busy: add cores, or spread partitions.", of},
		{"api_request_wait_seconds", times, "Of that, the wait for a sync, for more records or for a timeout, of those that had to wait. Long for Produce: the disk is slow.", of},
		{"api_request_bytes_total", counter, "Bytes of requests. Divided by api_requests_total, the size of one; when it grows, look what its clients have begun to send.", of},
		{"api_answer_bytes_total", counter, "Bytes of answers. Divided by api_requests_total, the size of one; large ones of Metadata: let clients ask for single topics.", of},
		{"api_parked_answers", gauge, "Requests that are not answered yet: long polls, and writes that wait for their sync. Many for Produce: the disk is slow.", of},
		{"api_errors_total", counter, "Errors answered, by API and Kafka's name of the code. Look at the clients' logs; UNKNOWN_SERVER_ERROR is a bug of ours.", []string{"api", "code"}},
		{"api_malformed_requests_total", counter, "Requests that could not be understood and closed their connection. The log says who sends them.", nil},
		{"api_produced_bytes_total", counter, "Bytes of record batches appended for clients. Compare with what the disks can write, and with retention: it is what fills them.", nil},
		{"api_produced_records_total", counter, "Records appended for clients. 0 although producers run: look at api_produce_errors_total, and at their logs.", nil},
		{"api_produced_batches_total", counter, "Batches appended for clients. Few records in each: raise linger.ms and batch.size of the producers.", nil},
		{"api_produce_errors_total", counter, "Partitions of Produce requests answered with an error. Rising: api_errors_total has the codes.", nil},
		{"api_fetched_bytes_total", counter, "Bytes of record batches given to readers. Far more than is produced: somebody reads topics from their start again and again; find out who.", nil},
		{"api_fetch_errors_total", counter, "Partitions of Fetch requests answered with an error. Rising: api_errors_total has the codes.", nil},
		{"api_fetch_sessions", gauge, "Fetch sessions cached. At max.incremental.fetch.session.cache.slots readers send longer requests: raise it.", nil},
		{"coordinator_memory_bytes", gauge, "What groups, committed offsets and transactional ids take in memory, roughly. Near four fifths of the limit, where new ones are refused: delete groups that nobody needs (barnabas group list), find the client that makes ever new ones, or raise coordinator.memory.max.bytes.", nil},
		{"coordinator_memory_limit_bytes", gauge, "What they may take. coordinator_memory_bytes near it: raise coordinator.memory.max.bytes, which sets it, or give the machine more memory.", nil},
		{"coordinator_refusals_total", counter, "Times that a new group, member, offset or transactional id was refused because the coordinators' memory is full. Any at all: do what coordinator_memory_bytes says.", nil},
		{"quota_entities", gauge, "Users, clients and addresses that a quota is set for, by the quota's key. More than you know of: barnabas quota list names them.", []string{"key"}},
		{"quota_clients", gauge, "Clients whose use is counted because a quota meets them, by the quota's key. 0 although there is a quota: its user or client id is misspelt, or nobody uses it.", []string{"key"}},
		{"quota_throttled_answers_total", counter, "Answers that told a client to wait, by the quota's key. If that client matters, raise its quota.", []string{"key"}},
		{"quota_throttle_seconds_total", counter, "Time that clients were told to wait, all together, by the quota's key. Rising by more than 1 a second: one client or more does nothing but wait; raise its quota, or let it send less.", []string{"key"}},
	}
}

func (c *collector) api(s sink) {
	memory := c.b.coordinators.Load().memory
	s.level("coordinator_memory_bytes", memory.Held())
	s.level("coordinator_memory_limit_bytes", memory.Limit())
	s.count("coordinator_refusals_total", memory.Refused())
	a := c.b.api
	st := a.Stats()
	st.APIs(func(k wire.Key, x *api.APIStats) {
		name := k.String()
		s.count("api_requests_total", x.Received, name)
		s.times("api_request_seconds", x.Whole, name)
		s.times("api_request_work_seconds", x.Worked, name)
		s.times("api_request_wait_seconds", x.Waited, name)
		s.count("api_request_bytes_total", x.RequestBytes, name)
		s.count("api_answer_bytes_total", x.AnswerBytes, name)
		s.level("api_parked_answers", x.Parked, name)
	})
	st.Errors(func(k wire.Key, e wire.ErrorCode, n uint64) { s.count("api_errors_total", n, k.String(), e.Error()) })
	s.count("api_malformed_requests_total", st.Malformed.Load())
	s.count("api_produced_bytes_total", st.ProducedBytes.Load())
	s.count("api_produced_records_total", st.ProducedRecords.Load())
	s.count("api_produced_batches_total", st.ProducedBatches.Load())
	s.count("api_produce_errors_total", st.ProduceErrors.Load())
	s.count("api_fetched_bytes_total", st.FetchedBytes.Load())
	s.count("api_fetch_errors_total", st.FetchErrors.Load())
	s.level("api_fetch_sessions", int64(a.FetchSessions()))
}

func (c *collector) quotas(s sink) {
	entities := c.b.api.Quotas()
	for k, n := range entities {
		s.level("quota_entities", int64(n), quotaKey(k))
	}
	for _, t := range c.b.api.Throttled() {
		key := t.Kind.Key()
		s.level("quota_clients", int64(t.Clients), key)
		s.count("quota_throttled_answers_total", t.Answers, key)
		s.send("quota_throttle_seconds_total", t.Wait.Seconds(), key)
	}
}
