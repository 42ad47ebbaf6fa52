package api

import (
	"context"
	"errors"
	"unicode/utf8"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/producers"
	"github.com/barnabas-log/barnabas/internal/quorum"
	"github.com/barnabas-log/barnabas/internal/replicas"
	"github.com/barnabas-log/barnabas/internal/telemetry"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// sentinels are the errors of lower floors and Kafka's code for each. It is
// the one place where the two meet; an error that is not here is a bug.
func sentinels() []sentinel {
	return []sentinel{
		{ErrNoReplica, wire.NotLeaderOrFollower},
		{partition.ErrNotLeader, wire.NotLeaderOrFollower},
		{partition.ErrDiskFull, wire.KafkaStorageError},
		{partition.ErrOffline, wire.KafkaStorageError},
		{partition.ErrFencedEpoch, wire.FencedLeaderEpoch},
		{partition.ErrUnknownEpoch, wire.UnknownLeaderEpoch},
		{partition.ErrOutOfRange, wire.OffsetOutOfRange},
		{partition.ErrKept, wire.PolicyViolation},
		{partition.ErrForeign, wire.PolicyViolation},
		{partition.ErrMoved, wire.NotLeaderOrFollower},
		{partition.ErrTooFewInSync, wire.NotEnoughReplicas},
		{partition.ErrTooLargeForSegment, wire.RecordListTooLarge},
		{commitlog.ErrOffline, wire.KafkaStorageError},
		{commitlog.ErrClosed, wire.NotLeaderOrFollower},
		{commitlog.ErrOutOfRange, wire.OffsetOutOfRange},
		{commitlog.ErrTooLarge, wire.RecordListTooLarge},
		{replicas.ErrUnknown, wire.NotLeaderOrFollower},
		{replicas.ErrMissing, wire.KafkaStorageError},
		{replicas.ErrDiskFull, wire.KafkaStorageError},
		{replicas.ErrDirFailed, wire.KafkaStorageError},
		{replicas.ErrNoDir, wire.LogDirNotFound},
		{replicas.ErrCordoned, wire.InvalidReplicaAssignment},
		{replicas.ErrLongName, wire.InvalidTopicException},
		{producers.ErrOutOfOrderSequence, wire.OutOfOrderSequenceNumber},
		{producers.ErrInvalidEpoch, wire.InvalidProducerEpoch},
		{producers.ErrInvalidTxnState, wire.InvalidTxnState},
		{producers.ErrCoordinatorFenced, wire.TransactionCoordinatorFenced},
		{controller.ErrTopicExists, wire.TopicAlreadyExists},
		{controller.ErrInvalidName, wire.InvalidTopicException},
		{controller.ErrInvalidPartitions, wire.InvalidPartitions},
		{controller.ErrInvalidReplication, wire.InvalidReplicationFactor},
		{controller.ErrInvalidAssignment, wire.InvalidReplicaAssignment},
		{controller.ErrInvalidRequest, wire.InvalidRequest},
		{controller.ErrUnknownTopic, wire.UnknownTopicOrPartition},
		{controller.ErrUnknownTopicID, wire.UnknownTopicID},
		{controller.ErrPolicy, wire.PolicyViolation},
		{controller.ErrUnsupported, wire.UnsupportedVersion},
		{telemetry.ErrThrottled, wire.ThrottlingQuotaExceeded},
		{telemetry.ErrUnknown, wire.UnknownSubscriptionID},
		{telemetry.ErrCompression, wire.UnsupportedCompressionType},
		{telemetry.ErrTooLarge, wire.TelemetryTooLarge},
		{telemetry.ErrAfterEnd, wire.InvalidRequest},
		{telemetry.ErrBadInstances, wire.InvalidRequest},
		{telemetry.ErrMalformed, wire.InvalidRecord},
		{errNoCoordinator, wire.CoordinatorNotAvailable},
		{coordinator.ErrNotCoordinator, wire.NotCoordinator},
		{coordinator.ErrLoading, wire.CoordinatorLoadInProgress},
		{coordinator.ErrUnavailable, wire.CoordinatorNotAvailable},
		{quorum.ErrStopped, wire.NotController},
		{context.DeadlineExceeded, wire.RequestTimedOut},
		{context.Canceled, wire.RequestTimedOut},
	}
}

type sentinel struct {
	err  error
	code wire.ErrorCode
}

// kinds are the codes of what record.Check refuses.
func kindCode(k record.Kind) wire.ErrorCode {
	switch k {
	case record.InvalidRecord:
		return wire.InvalidRecord
	case record.CorruptMessage:
		return wire.CorruptMessage
	case record.InvalidTimestamp:
		return wire.InvalidTimestamp
	case record.UnsupportedCompression:
		return wire.UnsupportedCompressionType
	case record.TooLarge:
		return wire.MessageTooLarge
	}
	return wire.UnknownServerError
}

// code returns Kafka's code for an error.
func code(err error) wire.ErrorCode {
	if err == nil { // Before anything escapes to the heap.
		return wire.None
	}
	var (
		direct  wire.ErrorCode
		refused *record.Error
		invalid *config.InvalidError
		request *config.RequestError
	)
	switch {
	case errors.As(err, &direct):
		return direct
	case errors.As(err, &refused):
		return kindCode(refused.Kind)
	case errors.As(err, &invalid):
		return wire.InvalidConfig
	case errors.As(err, &request):
		return wire.InvalidRequest
	}
	for _, s := range sentinels() {
		if errors.Is(err, s.err) {
			return s.code
		}
	}
	return wire.UnknownServerError
}

// codeOf is code for answers: an error that nobody foresaw is logged, once in
// a while, with what was asked.
func (s *session) codeOf(err error, c *call) int16 {
	k := code(err)
	if k == wire.UnknownServerError && !foreseen(err) && s.limit.allow() {
		s.opts.Log.Error("unexpected error", "api", c.Key, "version", c.Version, "peer", s.conn.RemoteAddr(), "err", err)
	}
	return int16(k)
}

// foreseen reports an error that Kafka answers with UNKNOWN_SERVER_ERROR, and
// so do we.
func foreseen(err error) bool {
	var direct wire.ErrorCode
	return errors.As(err, new(*record.Error)) || errors.As(err, &direct)
}

// message is the text that goes with an error's code: what was written for the
// client, and nothing that tells of our insides.
func message(err error) *string {
	var (
		refused *controller.Refusal
		invalid *config.InvalidError
		request *config.RequestError
	)
	if err == nil || !errors.As(err, &refused) && !errors.As(err, &invalid) && !errors.As(err, &request) {
		return nil
	}
	if text := err.Error(); text != "" {
		return fitting(text)
	}
	return nil // The code says it all.
}

// maxMessage is how many bytes the protocol has for a text. Messages that repeat
// a stranger's name, which may be as long, are cut.
const maxMessage = 1<<15 - 1

// fitting cuts a text that does not fit an answer, between two characters.
func fitting(text string) *string {
	if len(text) > maxMessage {
		end := maxMessage
		for !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end]
	}
	return &text
}
