package conn

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/barnabas-log/barnabas/wire"
)

// maxInFlight bounds requests sent and not answered: enough to fill a long line,
// and a broker works on them one by one anyway.
const maxInFlight = 256

// session is one life of a connection: a goroutine that writes, one that reads.
// A request goes through queue to the writer, which puts it into inFlight before
// it writes it, so that the reader finds requests in the order of answers.
type session struct {
	opts     Options
	conn     net.Conn
	versions map[wire.Key]wire.ApiVersionsResponseApiVersion
	queue    chan *call
	inFlight chan *call
	dead     chan struct{} // closed by fail
	once     sync.Once
	cause    error // why, readable after dead is closed
	running  sync.WaitGroup
}

// call is one request. Done holds its only outcome.
type call struct {
	frame   []byte // but for the correlation id
	key     wire.Key
	version int16
	resp    wire.Response // nil if there will be no answer
	done    chan error
}

// attempts are the versions of ApiVersions to try. A broker that does not know
// the newest says so and names its own; some proxies cut the connection instead
// and are asked again, more modestly.
func attempts() []int16 { return []int16{5, 3, 0} }

// connect dials and agrees on versions.
func (c *Conn) connect(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.ConnectTimeout)
	defer cancel()
	var first error
	for _, version := range attempts() {
		nc, err := c.opts.Dial(ctx, c.address)
		if err != nil {
			return nil, errors.Join(first, err)
		}
		s := &session{opts: c.opts, conn: nc, queue: make(chan *call), inFlight: make(chan *call, maxInFlight), dead: make(chan struct{})}
		s.running.Go(s.write)
		s.running.Go(s.read)
		if err = s.negotiate(ctx, version); err == nil {
			return s, nil
		}
		s.fail(err)
		s.wait()
		if ctx.Err() != nil || errors.Is(err, ErrProtocol) {
			return nil, err
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// negotiate asks for the broker's versions (KIP-35, KIP-511).
func (s *session) negotiate(ctx context.Context, version int16) error {
	req := wire.NewApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "barnabas", s.opts.SoftwareVersion
	for range 2 {
		resp := wire.NewApiVersionsResponse()
		if err := s.send(ctx, req, version, resp); err != nil {
			return err
		}
		if code := wire.ErrorCode(resp.ErrorCode); code != wire.None && code != wire.UnsupportedVersion {
			return code
		}
		s.versions = make(map[wire.Key]wire.ApiVersionsResponseApiVersion, len(resp.ApiKeys))
		for _, v := range resp.ApiKeys {
			s.versions[wire.Key(v.ApiKey)] = v
		}
		if wire.ErrorCode(resp.ErrorCode) == wire.None {
			return nil
		}
		var err error
		if version, err = s.version(wire.ApiVersionsKey); err != nil {
			version = 0
		}
	}
	return fmt.Errorf("%w: no agreement on ApiVersions", ErrProtocol)
}

// version is the newest that both sides speak.
func (s *session) version(key wire.Key) (int16, error) {
	theirs, ok := s.versions[key]
	ours, known := wire.LookupAPI(key)
	if !ok || !known {
		return 0, fmt.Errorf("%w: %s", ErrUnsupported, key)
	}
	v := min(ours.MaxVersion, theirs.MaxVersion)
	if v < ours.MinVersion || v < theirs.MinVersion {
		return 0, fmt.Errorf("%w: %s %d to %d, ours are %d to %d", ErrUnsupported, key, theirs.MinVersion, theirs.MaxVersion,
			ours.MinVersion, ours.MaxVersion)
	}
	return v, nil
}

func (s *session) do(ctx context.Context, req wire.Request) (wire.Response, error) {
	version, err := s.version(req.Key())
	if err != nil {
		return nil, err
	}
	resp := req.NewResponse()
	if p, ok := req.(*wire.ProduceRequest); ok && p.Acks == 0 {
		return resp, s.send(ctx, req, version, nil)
	}
	return resp, s.send(ctx, req, version, resp)
}

// send queues the request and waits for its outcome.
func (s *session) send(ctx context.Context, req wire.Request, version int16, resp wire.Response) error {
	h := wire.RequestHeader{Version: version}
	if s.opts.ClientID != "" {
		h.ClientID = &s.opts.ClientID
	}
	frame, err := wire.AppendRequest(nil, h, req)
	if err != nil {
		return err
	}
	c := &call{frame: frame, key: req.Key(), version: version, resp: resp, done: make(chan error, 1)}
	select {
	case s.queue <- c:
	case <-s.dead:
		return s.cause
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-c.done:
		return err
	case <-s.dead:
		// The answer may have come just before the end.
		select {
		case err := <-c.done:
			return err
		default:
			return s.cause
		}
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			s.fail(context.Cause(ctx))
		}
		return context.Cause(ctx)
	}
}

// write sends what is queued, several requests in one system call if they are
// there.
func (s *session) write() {
	w := bufio.NewWriterSize(s.conn, 64<<10)
	for id := int32(0); ; id++ {
		var c *call
		select {
		case c = <-s.queue:
		default:
			if err := w.Flush(); err != nil {
				s.fail(err)
				return
			}
			select {
			case c = <-s.queue:
			case <-s.dead:
				return
			}
		}
		binary.BigEndian.PutUint32(c.frame[wire.FrameSizeBytes+4:], uint32(id))
		if c.resp != nil {
			select {
			case s.inFlight <- c:
			case <-s.dead:
				return
			}
		}
		if _, err := w.Write(c.frame); err != nil {
			s.fail(err)
			return
		}
		if c.resp == nil {
			c.done <- w.Flush()
		}
	}
}

// read hands answers to the calls they are for.
func (s *session) read() {
	r := bufio.NewReaderSize(s.conn, 16<<10)
	for {
		frame, err := readFrame(r, s.opts.MaxResponse)
		if err != nil {
			s.fail(err)
			return
		}
		var c *call
		select {
		case c = <-s.inFlight:
		default:
			s.fail(fmt.Errorf("%w: an answer that nobody asked for", ErrProtocol))
			return
		}
		if err := c.take(frame); err != nil {
			s.fail(err)
			return
		}
		c.done <- nil
	}
}

// take decodes an answer. ApiVersions in a version unknown to the broker is
// answered in version 0.
func (c *call) take(frame []byte) error {
	r := wire.NewReader(frame)
	id, err := wire.ReadResponseHeader(r, c.key, c.version)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrProtocol, c.key, err)
	}
	if want := int32(binary.BigEndian.Uint32(c.frame[wire.FrameSizeBytes+4:])); id != want {
		return fmt.Errorf("%w: %s: correlation id %d, want %d", ErrProtocol, c.key, id, want)
	}
	version := c.version
	if c.key == wire.ApiVersionsKey && len(frame) >= 6 && wire.ErrorCode(int16(binary.BigEndian.Uint16(frame[4:]))) == wire.UnsupportedVersion {
		version = 0
	}
	if err := wire.ReadExactly(r, c.resp, version); err != nil {
		return fmt.Errorf("%w: %s version %d: %w", ErrProtocol, c.key, version, err)
	}
	return nil
}

// firstRead is what a frame gets before its bytes have come.
const firstRead = 1 << 20

// readFrame reads one frame. A size alone costs no more than firstRead.
func readFrame(r io.Reader, most int) ([]byte, error) {
	var head [wire.FrameSizeBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := int(int32(binary.BigEndian.Uint32(head[:])))
	if size < 4 || size > most {
		return nil, fmt.Errorf("%w: an answer of %d bytes, at most %d are taken", ErrProtocol, size, most)
	}
	frame := make([]byte, min(size, firstRead))
	for n := 0; ; {
		m, err := io.ReadFull(r, frame[n:])
		if n += m; err != nil {
			return nil, err
		}
		if n == size {
			return frame, nil
		}
		grown := make([]byte, min(size, 4*n))
		copy(grown, frame)
		frame = grown
	}
}

// fail ends the session, once. Calls in flight see dead.
func (s *session) fail(cause error) {
	s.once.Do(func() {
		if errors.Is(cause, io.EOF) || errors.Is(cause, io.ErrUnexpectedEOF) {
			cause = fmt.Errorf("connection closed by the broker: %w", cause)
		}
		s.cause = cause
		close(s.dead)
		_ = s.conn.Close() // Nothing is left to be lost.
	})
}

func (s *session) alive() bool {
	select {
	case <-s.dead:
		return false
	default:
		return true
	}
}

func (s *session) wait() { s.running.Wait() }
