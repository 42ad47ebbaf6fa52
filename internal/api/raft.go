package api

import (
	"fmt"
	"strings"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// controllerListener is the listener of controllers by its usual name. We have
// none of our own.
const controllerListener = "CONTROLLER"

// addRaftVoter and removeRaftVoter change who keeps the metadata log (KIP-853),
// in clusters whose kraft.version is 1. Ours is 0: this node alone keeps it. What
// is wrong with the request itself is said first, as Kafka does.
func (s *session) addRaftVoter(_ *call, q *wire.AddRaftVoterRequest) wire.Response {
	r := wire.NewAddRaftVoterResponse()
	code, text := s.checkVoter("Add", q.ClusterID, q.VoterID, q.VoterDirectoryID)
	if code == wire.None {
		code, text = checkVoterListeners(q.Listeners)
	}
	if code == wire.None {
		code, text = wire.UnsupportedVersion, "Cluster doesn't support adding voter because the kraft.version feature is 0"
	}
	r.ErrorCode, r.ErrorMessage = int16(code), &text
	return r
}

func (s *session) removeRaftVoter(_ *call, q *wire.RemoveRaftVoterRequest) wire.Response {
	r := wire.NewRemoveRaftVoterResponse()
	code, text := s.checkVoter("Remove", q.ClusterID, q.VoterID, q.VoterDirectoryID)
	if code == wire.None {
		code, text = wire.UnsupportedVersion, "Cluster doesn't support removing voter because the kraft.version feature is 0"
	}
	r.ErrorCode, r.ErrorMessage = int16(code), &text
	return r
}

// checkVoter looks whether a request is for this cluster, and names a voter.
func (s *session) checkVoter(what string, cluster *string, id int32, directory model.UUID) (wire.ErrorCode, string) {
	switch {
	case cluster != nil && *cluster != s.opts.ClusterID:
		return wire.InconsistentClusterID, `The given id "` + *cluster + `" doesn't match the cluster id "` + s.opts.ClusterID + `"`
	case id < 0 || directory.IsZero():
		return wire.InvalidRequest, what + " voter request didn't include a valid voter"
	}
	return wire.None, ""
}

// checkVoterListeners looks whether controllers could reach a voter.
func checkVoterListeners(list []wire.AddRaftVoterRequestListener) (wire.ErrorCode, string) {
	var endpoints []string
	for _, l := range list {
		name := strings.ToUpper(l.Name)
		if name == controllerListener {
			return wire.None, ""
		}
		endpoints = append(endpoints, fmt.Sprintf("ListenerName(%s)=%s/<unresolved>:%d", name, l.Host, l.Port))
	}
	return wire.InvalidRequest, fmt.Sprintf("Add voter request didn't include the endpoint (Endpoints(endpoints={%s})) for the default listener ListenerName(%s)",
		strings.Join(endpoints, ", "), controllerListener)
}

// unregisterController forgets a controller that will not come back. This one
// is all there is.
func (s *session) unregisterController(_ *call, q *wire.UnregisterControllerRequest) wire.Response {
	r := wire.NewUnregisterControllerResponse()
	code, text := wire.ControllerIDNotRegistered, fmt.Sprintf("Controller ID %d is not currently registered.", q.ControllerID)
	if model.NodeID(q.ControllerID) == s.opts.Self {
		code, text = wire.InvalidRequest, "Controller cannot unregister itself while it is active."
	}
	r.ErrorCode, r.ErrorMessage = int16(code), &text
	return r
}
