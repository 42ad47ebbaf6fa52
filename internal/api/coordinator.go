package api

import (
	"strconv"
	"strings"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// findCoordinator has no coordinators to name yet.
func (s *session) findCoordinator(c *call, q *wire.FindCoordinatorRequest) wire.Response {
	r := wire.NewFindCoordinatorResponse()
	if c.Version < 4 {
		e := coordinatorOf(c.Version, q.KeyType, q.CoordinatorKey)
		r.ErrorCode, r.ErrorMessage, r.NodeID, r.Port = int16(e), new(e.Message()), -1, -1
		return r
	}
	for _, key := range q.CoordinatorKeys {
		e := coordinatorOf(c.Version, q.KeyType, key)
		x := wire.Extend(&r.Coordinators)
		x.Key, x.NodeID, x.Port, x.ErrorCode = key, -1, -1, int16(e)
		if q.KeyType < groupCoordinator || q.KeyType > shareCoordinator {
			x.ErrorMessage = new(e.Message())
		}
	}
	return r
}

// The kinds of coordinators.
const (
	groupCoordinator = 0
	shareCoordinator = 2 // Transactions are 1.
)

func coordinatorOf(version int16, keyType int8, key string) wire.ErrorCode {
	switch {
	case keyType < groupCoordinator || keyType > shareCoordinator:
		return wire.InvalidRequest
	case keyType == shareCoordinator && (version < 6 || !sharePartition(key)):
		return wire.InvalidRequest
	}
	return wire.CoordinatorNotAvailable
}

// sharePartition reports whether a key is group:topic-id:partition (KIP-932).
func sharePartition(key string) bool {
	parts := strings.Split(key, ":")
	if len(parts) != 3 || parts[0] == "" {
		return false
	}
	_, err := model.ParseUUID(parts[1])
	_, err2 := strconv.ParseInt(parts[2], 10, 32)
	return err == nil && err2 == nil
}
