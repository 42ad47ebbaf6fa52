package api

import (
	"strconv"
	"strings"

	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// whereabouts is a coordinator, or why there is none.
type whereabouts struct {
	code wire.ErrorCode
	node model.NodeID
	at   Address
}

// findCoordinator names the brokers that lead the partitions of keys. The topic
// of a coordinator is made when it is first asked for.
func (s *session) findCoordinator(c *call, q *wire.FindCoordinatorRequest) wire.Response {
	r := wire.NewFindCoordinatorResponse()
	if c.Version < 4 {
		f := s.coordinatorOf(c.Version, q.KeyType, q.CoordinatorKey)
		message := "NONE"
		if f.code != wire.None {
			message = f.code.Message()
		}
		r.ErrorCode, r.ErrorMessage, r.NodeID, r.Host, r.Port = int16(f.code), &message, int32(f.node), f.at.Host, f.at.Port
		return r
	}
	for _, key := range q.CoordinatorKeys {
		f := s.coordinatorOf(c.Version, q.KeyType, key)
		x := wire.Extend(&r.Coordinators)
		x.Key, x.ErrorCode, x.NodeID, x.Host, x.Port = key, int16(f.code), int32(f.node), f.at.Host, f.at.Port
		if q.KeyType < groupCoordinator || q.KeyType > shareCoordinator {
			x.ErrorMessage = new(f.code.Message())
		}
	}
	return r
}

// The kinds of coordinators.
const (
	groupCoordinator = 0
	txnCoordinator   = 1
	shareCoordinator = 2
)

func none(e wire.ErrorCode) whereabouts {
	return whereabouts{code: e, node: model.NoNode, at: Address{Port: -1}}
}

func (s *session) coordinatorOf(version int16, keyType int8, key string) whereabouts {
	topic := controller.OffsetsTopic
	switch {
	case keyType < groupCoordinator || keyType > shareCoordinator:
		return none(wire.InvalidRequest)
	case keyType == shareCoordinator && (version < 6 || !sharePartition(key)):
		return none(wire.InvalidRequest)
	case keyType == shareCoordinator:
		return none(wire.CoordinatorNotAvailable) // Share groups come later.
	case keyType == txnCoordinator:
		topic = controller.TransactionsTopic
	}
	t, err := s.stateTopic(topic)
	if err != nil {
		return none(code(err))
	}
	leader, e := s.leader(t, int(coordinator.Partition(key, int32(len(t.Partitions)))))
	if e != wire.None {
		return none(wire.CoordinatorNotAvailable)
	}
	at, ok := s.address(s.opts.Metadata.Image().Broker(leader))
	if !ok {
		return none(wire.CoordinatorNotAvailable)
	}
	return whereabouts{node: leader, at: at}
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
