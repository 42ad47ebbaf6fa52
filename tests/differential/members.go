package differential

import (
	"errors"
	"fmt"
	"time"

	"github.com/barnabas-log/barnabas/wire"
)

// Several members of a group need several connections: the broker lets some wait for what others do.

// owed is a request whose answer is still to be read.
type owed struct {
	step                   string
	req                    wire.Request
	version, headerVersion int16
	correlation            int32
}

// on is a connection by its name. It numbers its requests itself.
func (r *runner) on(name string) *runner {
	if r.others == nil {
		r.others = map[string]*runner{}
	}
	if r.others[name] == nil {
		r.others[name] = &runner{broker: r.broker, names: r.names, scope: r.scope}
	}
	return r.others[name]
}

// owe sends a request whose answer is read when the script says so.
func (r *runner) owe(o *owed, frame []byte) error {
	if r.owed != nil {
		return fmt.Errorf("the answer to %q was not asked for", r.owed.step)
	}
	if err := r.dial(); err != nil {
		return err
	}
	r.owed = o
	_, err := r.conn.Write(frame)
	return err
}

// answered reads the answer that a connection owes.
func (r *runner) answered(name string) error {
	on := r.on(name)
	if on.owed == nil {
		return fmt.Errorf("%s owes no answer", name)
	}
	payload, err := on.exchange(nil)
	if err != nil {
		return err
	}
	o := on.owed
	on.owed = nil
	return r.note(on, o, payload)
}

// group waits until a group is in a state: so it is known that requests of other connections have arrived.
func (r *runner) group(s *step) error {
	if len(s.args) != 2 {
		return errors.New("group wants GROUP and STATE")
	}
	state := ""
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		req := wire.NewDescribeGroupsRequest()
		req.Groups = s.args[:1]
		resp, err := ask[*wire.DescribeGroupsResponse](r, req)
		if err != nil {
			return err
		}
		if state = resp.Groups[0].GroupState; state == s.args[1] {
			return nil
		}
	}
	return fmt.Errorf("the group is %q", state)
}
