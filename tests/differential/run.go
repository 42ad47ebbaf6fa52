package differential

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// What a step may come to beside an answer.
const (
	closed = "closed"
	silent = "silent"
)

// outcome is what became of one request.
type outcome struct {
	step    string
	version int16
	answer  any // a tree of maps, lists and plain values, normalised; or closed or silent
}

// broker is what a script is played on.
type broker interface {
	address() string
	again(kill bool) error
	// spoil puts a file in the place of a data directory, mend puts the directory back; both end the broker cleanly before and
	// start it again, unless it is to go on while its directory is spoiled.
	spoil(dir string, running bool) error
	mend(dir string) error
	// settle waits until the broker acts on what it has answered.
	settle()
}

// runner plays a script against a broker.
type runner struct {
	broker   broker
	conn     net.Conn
	sequence int32
	scope    scope
	last     wire.Response
	names    *names
	outcomes []outcome
	others   map[string]*runner // further connections, by name
	owed     *owed              // what this connection has still to answer
}

// patience bounds every wait for a broker that does not answer; no comparison depends on it.
const patience = 15 * time.Second

// play runs a script and returns its outcomes.
func play(s *script, b broker, n *names) ([]outcome, error) {
	r := &runner{broker: b, scope: scope{"dir": n.dir}, names: n}
	defer r.hangUp()
	for i := range s.steps {
		st := &s.steps[i]
		if err := r.step(st); err != nil {
			return r.outcomes, fmt.Errorf("%s:%d: %s: %w", s.name, st.line, st.label(), err)
		}
	}
	return r.outcomes, nil
}

func (r *runner) step(s *step) error {
	switch s.verb {
	case "answered":
		return r.answered(s.args[0])
	case "group":
		return r.group(s)
	case "topic":
		return r.createTopic(s)
	case "await":
		return r.await(s.args[0])
	case "gone":
		return r.gone(s.args[0])
	case "producer":
		return r.producer(s.args[0])
	case "save":
		return r.save(s.args)
	case "raw":
		return r.raw(s)
	case "transaction":
		return r.transaction(s)
	case "coordinator":
		return r.coordinator(s)
	case "ended":
		return r.ended(s.args[0])
	case "stable":
		return r.stable(s)
	case "wait":
		ms, err := strconv.Atoi(s.args[0])
		time.Sleep(time.Duration(ms) * time.Millisecond)
		return err
	case "settled":
		r.broker.settle()
		return nil
	case "restart", "kill":
		r.hangUp()
		return r.broker.again(s.verb == "kill")
	case "break":
		r.hangUp()
		return r.broker.spoil(s.args[0], false)
	case "ruin":
		return r.broker.spoil(s.args[0], true)
	case "mend":
		r.hangUp()
		return r.broker.mend(s.args[0])
	case "moved":
		return r.moved(s)
	case "offline":
		return r.offline(s)
	}
	for v := s.first; v <= s.last; v++ {
		if err := r.call(s, v); err != nil {
			return fmt.Errorf("version %d: %w", v, err)
		}
	}
	return nil
}

// call makes the request of a step in one version.
func (r *runner) call(s *step, version int16) error {
	r.scope["v"] = int64(version)
	req := s.api.NewRequest()
	req.Reset()
	if s.body != nil {
		if err := r.scope.fill(reflect.ValueOf(req).Elem(), s.body); err != nil {
			return err
		}
	}
	body, err := req.AppendTo(nil, version)
	if err != nil {
		return err
	}
	if body, err = s.spoil(body); err != nil {
		return err
	}
	headerVersion := version
	if as := s.options["as"]; as != "" {
		n, err := strconv.ParseInt(as, 10, 16)
		if err != nil {
			return err
		}
		headerVersion = int16(n)
	}
	r.sequence++
	h := wire.RequestHeader{Key: req.Key(), Version: headerVersion, CorrelationID: r.sequence, ClientID: s.clientID()}
	frame := wire.AppendFrame(nil, append(wire.AppendRequestHeader(nil, h), body...))
	if p, ok := req.(*wire.ProduceRequest); ok && p.Acks == 0 {
		frame = append(frame, r.probe()...)
	}
	o := &owed{s.label(), req, version, headerVersion, h.CorrelationID}
	if on := s.options["later"]; on != "" {
		return r.on(on).owe(o, frame)
	}
	payload, err := r.exchange(frame)
	if err != nil {
		return err
	}
	return r.note(r, o, payload)
}

// note keeps what became of a request that was made on some connection.
func (r *runner) note(on *runner, o *owed, payload []byte) error {
	answer, err := on.read(payload, o.req, o.headerVersion, o.correlation)
	if err != nil {
		return err
	}
	r.last = on.last
	r.outcomes = append(r.outcomes, outcome{o.step, o.version, answer})
	return nil
}

func (s *step) clientID() *string {
	id, given := s.options["client"]
	switch {
	case !given:
		id = "differential"
	case id == "null":
		return nil
	}
	return &id
}

func (s *step) spoil(body []byte) ([]byte, error) {
	if cut := s.options["cut"]; cut != "" {
		n, err := strconv.Atoi(cut)
		if err != nil || n > len(body) {
			return nil, fmt.Errorf("cannot cut %s bytes of %d", cut, len(body))
		}
		body = body[:len(body)-n]
	}
	extra, err := hex.DecodeString(s.options["add"])
	return append(body, extra...), err
}

// probe is a request that every broker answers; if its answer comes first, the one before it got none.
func (r *runner) probe() []byte {
	h := wire.RequestHeader{CorrelationID: -r.sequence}
	frame, err := wire.AppendRequest(nil, h, wire.NewApiVersionsRequest())
	if err != nil {
		panic(err)
	}
	return frame
}

// exchange sends a frame and returns the next one that comes, or nil if the broker closes the connection.
func (r *runner) exchange(frame []byte) ([]byte, error) {
	if err := r.dial(); err != nil {
		return nil, err
	}
	// A broker may close before it has read everything: what it did shows when reading.
	_, writeErr := r.conn.Write(frame)
	payload, err := readFrame(r.conn)
	if err != nil && (isClosed(err) || writeErr != nil && !errors.Is(err, errTimeout)) {
		r.hangUp()
		return nil, nil
	}
	return payload, err
}

// dial connects, unless there is a connection, and gives it time for what is next.
func (r *runner) dial() error {
	if r.conn == nil {
		c, err := net.DialTimeout("tcp", r.broker.address(), patience)
		if err != nil {
			return err
		}
		r.conn = c
	}
	return r.conn.SetDeadline(time.Now().Add(patience))
}

var errTimeout = errors.New("no answer in time")

func readFrame(c net.Conn) ([]byte, error) {
	size := make([]byte, wire.FrameSizeBytes)
	if _, err := io.ReadFull(c, size); err != nil {
		return nil, timeout(err)
	}
	payload := make([]byte, binary.BigEndian.Uint32(size))
	_, err := io.ReadFull(c, payload)
	return payload, timeout(err)
}

func timeout(err error) error {
	if n, ok := err.(net.Error); ok && n.Timeout() {
		return errTimeout
	}
	return err
}

func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "connection reset") || strings.Contains(err.Error(), "broken pipe")
}

func (r *runner) hangUp() {
	for _, other := range r.others {
		other.hangUp()
	}
	if r.conn != nil {
		r.conn.Close()
		r.conn = nil
	}
}

// read decodes an answer. ApiVersions in a version that the broker lacks is answered in version 0.
func (r *runner) read(payload []byte, req wire.Request, version int16, correlation int32) (any, error) {
	if payload == nil {
		return closed, nil
	}
	got := int32(binary.BigEndian.Uint32(payload))
	if got == -correlation {
		return silent, nil
	}
	if got != correlation {
		return nil, fmt.Errorf("answer to request %d, want %d", got, correlation)
	}
	if p, ok := req.(*wire.ProduceRequest); ok && p.Acks == 0 {
		if _, err := readFrame(r.conn); err != nil { // the probe's
			return nil, err
		}
	}
	reader := wire.NewReader(payload)
	if _, err := wire.ReadResponseHeader(reader, req.Key(), version); err != nil {
		return nil, err
	}
	if api, _ := wire.LookupAPI(req.Key()); version > api.MaxVersion {
		version = 0
	}
	resp := req.NewResponse()
	resp.Reset()
	if err := wire.ReadExactly(reader, resp, version); err != nil {
		return nil, err
	}
	r.last = resp
	if throttled(resp) { // Kafka does not read from it any more, for long.
		r.hangUp()
	}
	return r.names.tree(resp), nil
}

func throttled(resp wire.Response) bool {
	f := reflect.ValueOf(resp).Elem().FieldByName("ThrottleTimeMs")
	return f.IsValid() && f.Int() > 0
}

// ask is a request of the runner's own, in the newest version.
func ask[R wire.Response](r *runner, req wire.Request) (resp R, err error) {
	api, _ := wire.LookupAPI(req.Key())
	return askIn[R](r, req, api.MaxVersion)
}

func askIn[R wire.Response](r *runner, req wire.Request, version int16) (resp R, err error) {
	r.sequence++
	id := "setup"
	h := wire.RequestHeader{Version: version, CorrelationID: r.sequence, ClientID: &id}
	frame, err := wire.AppendRequest(nil, h, req)
	if err != nil {
		return resp, err
	}
	payload, err := r.exchange(frame)
	if err != nil {
		return resp, err
	}
	if payload == nil {
		return resp, errors.New("the broker closed the connection")
	}
	reader := wire.NewReader(payload)
	if _, err := wire.ReadResponseHeader(reader, req.Key(), version); err != nil {
		return resp, err
	}
	resp = req.NewResponse().(R)
	return resp, wire.ReadExactly(reader, resp, version)
}

func (r *runner) createTopic(s *step) error {
	req := wire.NewCreateTopicsRequest()
	t := wire.CreateTopicsRequestCreatableTopic{Name: s.args[0], NumPartitions: 1, ReplicationFactor: 1}
	for name, value := range s.options {
		if name == "partitions" {
			n, err := strconv.ParseInt(value, 10, 32)
			if err != nil {
				return err
			}
			t.NumPartitions = int32(n)
			continue
		}
		t.Configs = append(t.Configs, wire.CreateTopicsRequestCreatableTopicConfig{Name: name, Value: &value})
	}
	req.Topics = append(req.Topics, t)
	resp, err := ask[*wire.CreateTopicsResponse](r, req)
	if err != nil {
		return err
	}
	if code := wire.ErrorCode(resp.Topics[0].ErrorCode); code != wire.None {
		return fmt.Errorf("%w: %s", code, or(resp.Topics[0].ErrorMessage, ""))
	}
	return r.await(s.args[0])
}

// await waits until a topic is known and all its partitions serve. Kafka creates topics behind the answer's back.
func (r *runner) await(topic string) error {
	var last error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		t, err := r.describe(topic)
		if err != nil {
			return err
		}
		if err = r.serves(t); err == nil {
			r.scope[topic] = t.TopicID
			r.names.topic(t.TopicID)
			return nil
		}
		last = err
	}
	return fmt.Errorf("%s does not become ready: %w", topic, last)
}

func (r *runner) describe(topic string) (*wire.MetadataResponseTopic, error) {
	req := wire.NewMetadataRequest()
	req.AllowAutoTopicCreation = false
	req.Topics = []wire.MetadataRequestTopic{{Name: &topic}}
	resp, err := ask[*wire.MetadataResponse](r, req)
	if err != nil {
		return nil, err
	}
	return &resp.Topics[0], nil
}

// serves says why a topic does not serve yet.
func (r *runner) serves(t *wire.MetadataResponseTopic) error {
	if t.ErrorCode != 0 || len(t.Partitions) == 0 {
		return fmt.Errorf("answer of Metadata: %w, %d partitions", wire.ErrorCode(t.ErrorCode), len(t.Partitions))
	}
	req := wire.NewListOffsetsRequest()
	req.ReplicaID = -1
	topic := wire.ListOffsetsRequestListOffsetsTopic{Name: *t.Name}
	for _, p := range t.Partitions {
		topic.Partitions = append(topic.Partitions, wire.ListOffsetsRequestListOffsetsPartition{PartitionIndex: p.PartitionIndex, CurrentLeaderEpoch: -1, Timestamp: -1})
	}
	req.Topics = append(req.Topics, topic)
	resp, err := ask[*wire.ListOffsetsResponse](r, req)
	if err != nil {
		return err
	}
	for _, p := range resp.Topics[0].Partitions {
		if p.ErrorCode != 0 {
			return fmt.Errorf("ListOffsets: %w", wire.ErrorCode(p.ErrorCode))
		}
	}
	return nil
}

func (r *runner) gone(topic string) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		t, err := r.describe(topic)
		if err != nil {
			return err
		}
		if wire.ErrorCode(t.ErrorCode) == wire.UnknownTopicOrPartition {
			return nil
		}
	}
	return fmt.Errorf("%s does not go away", topic)
}

func wireError(code int16) error {
	if code == 0 {
		return nil
	}
	return wire.ErrorCode(code)
}

// save keeps a field of the last answer under a name.
func (r *runner) save(args []string) error {
	if len(args) != 3 || args[1] != "=" || r.last == nil {
		return errors.New("save wants NAME = PATH, after an answer")
	}
	v := reflect.ValueOf(r.last).Elem()
	for _, part := range strings.Split(args[2], ".") {
		if n, err := strconv.Atoi(part); err == nil {
			if v.Kind() != reflect.Slice || n >= v.Len() {
				return fmt.Errorf("the last answer has no %s", args[2])
			}
			v = v.Index(n)
			continue
		}
		if v = v.FieldByName(part); !v.IsValid() {
			return fmt.Errorf("the last answer has no %s", args[2])
		}
	}
	r.scope[args[0]] = v.Interface()
	if id, ok := v.Interface().(model.UUID); ok {
		r.names.topic(id)
	}
	return nil
}

// raw sends bytes on a connection of their own, ends its side and sees what comes.
func (r *runner) raw(s *step) error {
	b, as, version, err := r.rawBytes(s.args)
	if err != nil {
		return err
	}
	other := &runner{broker: r.broker, names: r.names, scope: r.scope}
	defer other.hangUp()
	c, err := net.DialTimeout("tcp", r.broker.address(), patience)
	if err != nil {
		return err
	}
	other.conn = c
	if _, err := c.Write(b); err == nil {
		c.(*net.TCPConn).CloseWrite()
	}
	payload, err := other.exchange(nil)
	if err != nil {
		return err
	}
	var answer any = closed
	switch {
	case payload != nil && as != nil:
		answer, err = other.read(payload, as, version, int32(binary.BigEndian.Uint32(payload)))
	case payload != nil:
		answer = hex.EncodeToString(payload)
	}
	r.outcomes = append(r.outcomes, outcome{s.label(), 0, answer})
	return err
}

func (r *runner) rawBytes(tokens []string) (b []byte, as wire.Request, version int16, err error) {
	frame := false
	for _, token := range tokens {
		kind, value, _ := strings.Cut(token, "=")
		if kind == "as" {
			name, v, _ := strings.Cut(value, ":")
			as = wire.NewMessage(name + "Request").(wire.Request)
			var n int64
			n, err = strconv.ParseInt(v, 10, 16)
			version = int16(n)
		} else if kind == "frame" {
			frame = true
		} else {
			b, err = appendToken(b, kind, value)
		}
		if err != nil {
			return nil, nil, 0, fmt.Errorf("%s: %w", token, err)
		}
	}
	if frame {
		b = wire.AppendFrame(nil, b)
	}
	return b, as, version, nil
}

func appendToken(b []byte, kind, value string) ([]byte, error) {
	switch kind {
	case "str":
		return append(b, value...), nil
	case "hex":
		more, err := hex.DecodeString(value)
		return append(b, more...), err
	}
	n, err := strconv.ParseInt(value, 0, 64)
	switch kind {
	case "i8":
		b = append(b, byte(n))
	case "i16":
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	case "i32":
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	case "i64":
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	case "zeros":
		b = append(b, make([]byte, n)...)
	default:
		err = errors.New("no such token")
	}
	return b, err
}
