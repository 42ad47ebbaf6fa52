package main

import (
	"context"
	"fmt"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// The kinds of coordinators.
const (
	coordinatorOfGroup = 0
	coordinatorOfTxn   = 1
)

// coordinator finds the broker that coordinates a group or a transaction. A
// cluster in which nobody has asked for one yet makes its topic first.
func coordinator(ctx context.Context, m *cluster.Map, kind int8, key string) (cluster.Broker, error) {
	req := wire.NewFindCoordinatorRequest()
	req.KeyType, req.CoordinatorKeys = kind, []string{key}
	var found wire.FindCoordinatorResponseCoordinator
	err := retry(ctx, func() error {
		resp, err := ask[*wire.FindCoordinatorResponse](ctx, m, req)
		if err != nil {
			return err
		}
		if len(resp.Coordinators) != 1 {
			return fmt.Errorf("coordinator of %s: the answer is about something else", key)
		}
		found = resp.Coordinators[0]
		return refusal(found.ErrorCode, found.ErrorMessage)
	})
	if err != nil {
		return nil, fmt.Errorf("coordinator of %s: %w", key, err)
	}
	return m.Node(ctx, model.NodeID(found.NodeID))
}

// everyBroker asks all brokers of the cluster.
func everyBroker(ctx context.Context, m *cluster.Map, each func(cluster.Broker) error) error {
	meta, err := m.Metadata(ctx, []string{}, false)
	if err != nil {
		return err
	}
	for i := range meta.Brokers {
		b, err := m.Node(ctx, model.NodeID(meta.Brokers[i].NodeID))
		if err != nil {
			return err
		}
		if err := retry(ctx, func() error { return each(b) }); err != nil {
			return err
		}
	}
	return nil
}
