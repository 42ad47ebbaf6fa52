package api

import (
	"github.com/barnabas-log/barnabas/wire"
)

// describeScram tells whose SCRAM credentials there are (KIP-554), without the
// credentials. Nobody can make one here yet; a directory that Kafka wrote may
// hold some. Tools that show a user's quotas ask for these, too.
func (s *session) describeScram(_ *call, q *wire.DescribeUserScramCredentialsRequest) wire.Response {
	r := wire.NewDescribeUserScramCredentialsResponse()
	users, all := s.opts.Metadata.Image().ScramUsers()
	asked := make(map[string]int, len(q.Users))
	names := all
	if len(q.Users) > 0 {
		names = nil
	}
	for _, u := range q.Users {
		if asked[u.Name]++; asked[u.Name] == 1 {
			names = append(names, u.Name)
		}
	}
	for _, name := range names {
		x := wire.Extend(&r.Results)
		x.User = name
		switch credentials := users[name]; {
		case asked[name] > 1:
			x.ErrorCode = int16(wire.DuplicateResource)
			x.ErrorMessage = fitting("Cannot describe SCRAM credentials for the same user twice in a single request: " + name)
		case len(credentials) == 0:
			x.ErrorCode = int16(wire.ResourceNotFound)
			x.ErrorMessage = fitting("Attempt to describe a user credential that does not exist: " + name)
		default:
			for _, c := range credentials {
				x.CredentialInfos = append(x.CredentialInfos, wire.DescribeUserScramCredentialsResponseCredentialInfo{Mechanism: c.Mechanism, Iterations: c.Iterations})
			}
		}
	}
	return r
}
