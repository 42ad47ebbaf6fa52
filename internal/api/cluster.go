package api

import (
	"fmt"

	"github.com/barnabas-log/barnabas/wire"
)

// Endpoint types of DescribeCluster (KIP-919).
const (
	brokerEndpoints     = 1
	controllerEndpoints = 2
)

// describeCluster tells which brokers there are.
func (s *session) describeCluster(_ *call, q *wire.DescribeClusterRequest) wire.Response {
	r := wire.NewDescribeClusterResponse()
	switch q.EndpointType {
	case brokerEndpoints:
	case controllerEndpoints:
		r.ErrorCode = int16(wire.MismatchedEndpointType)
		r.ErrorMessage = new("The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER")
		return r
	default:
		r.ErrorCode = int16(wire.UnsupportedEndpointType)
		r.ErrorMessage = new(fmt.Sprintf("Unsupported endpoint type %d", q.EndpointType))
		return r
	}
	r.ClusterID, r.ControllerID = s.opts.ClusterID, int32(s.opts.Self)
	if q.IncludeClusterAuthorizedOperations {
		r.ClusterAuthorizedOperations = clusterOperations
	}
	for _, b := range s.opts.Metadata.Image().Brokers() {
		if at, ok := s.address(b); ok && (!b.Fenced || q.IncludeFencedBrokers) {
			x := wire.Extend(&r.Brokers)
			x.BrokerID, x.Host, x.Port, x.Rack, x.IsFenced = int32(b.ID), at.Host, at.Port, b.Rack, b.Fenced
		}
	}
	return r
}
