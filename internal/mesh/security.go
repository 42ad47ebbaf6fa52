package mesh

import (
	"errors"
	"fmt"
	"net"

	"github.com/barnabas-log/barnabas/internal/zmtp"
)

// Security are the keys of a mesh in which all messages are encrypted, and only
// those who know the mesh's public key have a say (CURVE, RFC 26). All nodes and
// towers of a mesh have the same pair.
type Security struct{ Public, Secret zmtp.Key }

// server and client are the two roles of a node: who listens is the server.
func (s *Security) server() *zmtp.Curve {
	if s == nil {
		return nil
	}
	return &zmtp.Curve{Server: true, Secret: s.Secret, Authenticate: func(client zmtp.Key, _ net.Addr) error {
		if client != s.Public {
			return errors.New("not of this mesh")
		}
		return nil
	}}
}

func (s *Security) client() *zmtp.Curve {
	if s == nil {
		return nil
	}
	return &zmtp.Curve{Secret: s.Secret, ServerKey: s.Public}
}

// Listening and Dialling are the socket options of towers and others who are no
// nodes.
func (s *Security) Listening(o zmtp.Options) zmtp.Options { o.Curve = s.server(); return o }

// Dialling is the counterpart of Listening.
func (s *Security) Dialling(o zmtp.Options) zmtp.Options { o.Curve = s.client(); return o }

// ErrKeys says that the keys of a mesh are none.
var ErrKeys = errors.New("bad keys of the mesh")

// ParseSecurity reads the two keys, each 40 characters of Z85. Without them there
// is no security, and the result is nil.
func ParseSecurity(public, secret string) (*Security, error) {
	if public == "" && secret == "" {
		return nil, nil
	}
	p, err := zmtp.ParseKey(public)
	if err != nil {
		return nil, fmt.Errorf("%w: public: %w", ErrKeys, err)
	}
	s, err := zmtp.ParseKey(secret)
	if err != nil {
		return nil, fmt.Errorf("%w: secret: %w", ErrKeys, err)
	}
	if s.Public() != p {
		return nil, fmt.Errorf("%w: they do not belong together", ErrKeys)
	}
	return &Security{p, s}, nil
}
