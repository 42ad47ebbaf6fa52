package api

import "github.com/barnabas-log/barnabas/wire"

// Access control lists need an authorizer, which does not exist yet. Tools ask
// all the same, and take SECURITY_DISABLED for the answer that it is: everybody
// may do everything.
const noAuthorizer = "No Authorizer is configured."

func (s *session) describeACLs(_ *call, _ *wire.DescribeAclsRequest) wire.Response {
	r := wire.NewDescribeAclsResponse()
	r.ErrorCode, r.ErrorMessage = int16(wire.SecurityDisabled), new("No Authorizer is configured on the broker") // In Kafka's other words.
	return r
}

func (s *session) createACLs(_ *call, q *wire.CreateAclsRequest) wire.Response {
	r, why := wire.NewCreateAclsResponse(), noAuthorizer
	for range q.Creations {
		x := wire.Extend(&r.Results)
		x.ErrorCode, x.ErrorMessage = int16(wire.SecurityDisabled), &why
	}
	return r
}

func (s *session) deleteACLs(_ *call, q *wire.DeleteAclsRequest) wire.Response {
	r, why := wire.NewDeleteAclsResponse(), noAuthorizer
	for range q.Filters {
		x := wire.Extend(&r.FilterResults)
		x.ErrorCode, x.ErrorMessage = int16(wire.SecurityDisabled), &why
	}
	return r
}
