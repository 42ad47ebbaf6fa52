package controller

import (
	"errors"
	"fmt"
)

// Why a command was refused. What a client is shown is the message of the
// Refusal around it.
var (
	ErrTopicExists        = errors.New("controller: topic exists")
	ErrInvalidName        = errors.New("controller: invalid topic name")
	ErrInvalidPartitions  = errors.New("controller: invalid number of partitions")
	ErrInvalidReplication = errors.New("controller: invalid replication factor")
	ErrInvalidAssignment  = errors.New("controller: invalid replica assignment")
	ErrInvalidRequest     = errors.New("controller: invalid request")
	ErrUnknownTopic       = errors.New("controller: unknown topic")
	ErrUnknownTopicID     = errors.New("controller: unknown topic id")
	ErrPolicy             = errors.New("controller: against a policy")
	ErrUnsupported        = errors.New("controller: not supported")
)

// Refusal is a command that is not carried out.
type Refusal struct {
	Why     error // One of the errors above.
	Message string
}

// Error returns the message alone: it goes to the client as it is.
func (r *Refusal) Error() string { return r.Message }

// Unwrap returns Why.
func (r *Refusal) Unwrap() error { return r.Why }

func refuse(why error, format string, args ...any) *Refusal {
	return &Refusal{why, fmt.Sprintf(format, args...)}
}
