package conn_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/barnabas-log/barnabas/conn"
	"github.com/barnabas-log/barnabas/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a broker on the other end of pipes. Serve is called for each
// connection and owns it.
type fake struct {
	serve func(nc net.Conn)
	dials atomic.Int32
	all   sync.WaitGroup
}

func (f *fake) dial(context.Context, string) (net.Conn, error) {
	f.dials.Add(1)
	client, server := net.Pipe()
	f.all.Go(func() {
		defer server.Close()
		f.serve(server)
	})
	return client, nil
}

func (f *fake) conn(t *testing.T) *conn.Conn {
	c := conn.New("broker:9092", conn.Options{ClientID: "test", SoftwareVersion: "1.0", Dial: f.dial})
	t.Cleanup(func() {
		c.Close()
		f.all.Wait()
	})
	return c
}

// readRequest reads one frame, copied out of the pipe.
func readRequest(nc net.Conn) (wire.RequestHeader, wire.Request, error) {
	var head [4]byte
	if _, err := io.ReadFull(nc, head[:]); err != nil {
		return wire.RequestHeader{}, nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(nc, frame); err != nil {
		return wire.RequestHeader{}, nil, err
	}
	r := wire.NewReader(frame)
	h, err := wire.ReadRequestHeader(r)
	if err != nil {
		return h, nil, err
	}
	req, err := wire.ReadRequest(r, h)
	return h, req, err
}

func respond(nc net.Conn, version int16, id int32, resp wire.Response) error {
	frame, err := wire.AppendResponse(nil, version, id, resp)
	if err == nil {
		_, err = nc.Write(frame)
	}
	return err
}

// versions offers keys at the ranges given, and ApiVersions up to 3.
func versions(keys map[wire.Key][2]int16) *wire.ApiVersionsResponse {
	resp := wire.NewApiVersionsResponse()
	resp.ApiKeys = append(resp.ApiKeys, wire.ApiVersionsResponseApiVersion{ApiKey: int16(wire.ApiVersionsKey), MaxVersion: 3})
	for k, v := range keys {
		resp.ApiKeys = append(resp.ApiKeys, wire.ApiVersionsResponseApiVersion{ApiKey: int16(k), MinVersion: v[0], MaxVersion: v[1]})
	}
	return resp
}

// greet answers ApiVersions as Kafka does: version 5 is unknown to this broker.
func greet(nc net.Conn, keys map[wire.Key][2]int16) error {
	for {
		h, _, err := readRequest(nc)
		if err != nil {
			return err
		}
		resp := versions(keys)
		if h.Version > 3 {
			resp.ErrorCode = int16(wire.UnsupportedVersion)
			if err := respond(nc, 0, h.CorrelationID, resp); err != nil {
				return err
			}
			continue
		}
		return respond(nc, h.Version, h.CorrelationID, resp)
	}
}

func metadata() map[wire.Key][2]int16 {
	return map[wire.Key][2]int16{wire.MetadataKey: {0, 9}, wire.ProduceKey: {0, 7}}
}

// echo answers each metadata request with its topics' names.
func echo(nc net.Conn) {
	if greet(nc, metadata()) != nil {
		return
	}
	for {
		h, req, err := readRequest(nc)
		if err != nil {
			return
		}
		if _, ok := req.(*wire.ProduceRequest); ok {
			continue // acks=0
		}
		resp := wire.NewMetadataResponse()
		for _, t := range req.(*wire.MetadataRequest).Topics {
			resp.Topics = append(resp.Topics, wire.MetadataResponseTopic{Name: t.Name})
		}
		if respond(nc, h.Version, h.CorrelationID, resp) != nil {
			return
		}
	}
}

func ask(topic string) *wire.MetadataRequest {
	req := wire.NewMetadataRequest()
	req.Topics = []wire.MetadataRequestTopic{{Name: &topic}}
	return req
}

func TestVersionIsNegotiated(t *testing.T) {
	f := &fake{serve: echo}
	c := f.conn(t)
	ctx := context.Background()
	for key, want := range map[wire.Key]int16{wire.MetadataKey: 9, wire.ProduceKey: 7, wire.ApiVersionsKey: 3} {
		if v, err := c.Version(ctx, key); err != nil || v != want {
			t.Errorf("%s: version %d, %v; want %d", key, v, err, want)
		}
	}
	if _, err := c.Do(ctx, wire.NewFetchRequest()); !errors.Is(err, conn.ErrUnsupported) {
		t.Errorf("fetch: %v", err)
	}
	if n := f.dials.Load(); n != 1 {
		t.Errorf("%d dials", n)
	}
}

// A proxy that cuts the connection at versions it does not know is asked again.
func TestVersionCutOff(t *testing.T) {
	f := &fake{serve: func(nc net.Conn) {
		h, _, err := readRequest(nc)
		if err != nil || h.Version > 0 || respond(nc, 0, h.CorrelationID, versions(metadata())) != nil {
			return
		}
		_, _, _ = readRequest(nc)
	}}
	if v, err := f.conn(t).Version(context.Background(), wire.MetadataKey); err != nil || v != 9 || f.dials.Load() != 3 {
		t.Errorf("version %d, %v after %d dials", v, err, f.dials.Load())
	}
}

// Many requests at once share one connection, and each gets its own answer.
func TestPipelining(t *testing.T) {
	f := &fake{serve: echo}
	c := f.conn(t)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			for j := range 20 {
				name := fmt.Sprintf("topic-%d-%d", i, j)
				resp, err := c.Do(context.Background(), ask(name))
				if err != nil {
					t.Error(err)
					return
				}
				if got := *resp.(*wire.MetadataResponse).Topics[0].Name; got != name {
					t.Errorf("asked for %s, got %s", name, got)
				}
			}
		})
	}
	all.Wait()
	if n := f.dials.Load(); n != 1 {
		t.Errorf("%d dials", n)
	}
}

// Requests go out before the answers to those before them have come.
func TestInFlight(t *testing.T) {
	f := &fake{serve: func(nc net.Conn) {
		if greet(nc, metadata()) != nil {
			return
		}
		var heads []wire.RequestHeader
		for range 5 {
			h, _, err := readRequest(nc)
			if err != nil {
				return
			}
			heads = append(heads, h)
		}
		for _, h := range heads {
			if respond(nc, h.Version, h.CorrelationID, wire.NewMetadataResponse()) != nil {
				return
			}
		}
	}}
	c := f.conn(t)
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if _, err := c.Do(context.Background(), ask("a")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestReconnects(t *testing.T) {
	f := &fake{serve: func(nc net.Conn) {
		if greet(nc, metadata()) != nil {
			return
		}
		h, _, err := readRequest(nc)
		if err == nil {
			_ = respond(nc, h.Version, h.CorrelationID, wire.NewMetadataResponse())
		}
		_, _, _ = readRequest(nc) // The second request gets no answer.
	}}
	c := f.conn(t)
	for i := range 4 {
		_, err := c.Do(context.Background(), ask("a"))
		if (err != nil) != (i%2 == 1) {
			t.Errorf("request %d: %v", i, err)
		}
	}
	if n := f.dials.Load(); n != 2 {
		t.Errorf("%d dials", n)
	}
}

func TestAcksZero(t *testing.T) {
	f := &fake{serve: echo}
	c := f.conn(t)
	req := wire.NewProduceRequest()
	req.Acks = 0
	for range 3 {
		if _, err := c.Do(context.Background(), req); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Do(context.Background(), ask("a")); err != nil {
		t.Error(err)
	}
}

// A deadline ends the wait and the connection; a cancellation ends the wait
// alone, and the late answer does not reach another request.
func TestContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{serve: func(nc net.Conn) {
			if greet(nc, metadata()) != nil {
				return
			}
			for {
				h, req, err := readRequest(nc)
				if err != nil {
					return
				}
				resp := wire.NewMetadataResponse()
				resp.Topics = []wire.MetadataResponseTopic{{Name: req.(*wire.MetadataRequest).Topics[0].Name}}
				time.Sleep(time.Minute) // Of the bubble's own time.
				if respond(nc, h.Version, h.CorrelationID, resp) != nil {
					return
				}
			}
		}}
		c := conn.New("broker:9092", conn.Options{Dial: f.dial})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := c.Do(ctx, ask("slow")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("deadline: %v", err)
		}
		ctx, cancel = context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		if _, err := c.Do(ctx, ask("cancelled")); !errors.Is(err, context.Canceled) {
			t.Errorf("cancel: %v", err)
		}
		resp, err := c.Do(context.Background(), ask("next"))
		if err != nil || *resp.(*wire.MetadataResponse).Topics[0].Name != "next" {
			t.Errorf("next: %v", err)
		}
		if n := f.dials.Load(); n != 2 {
			t.Errorf("%d dials", n)
		}
		c.Close()
		if _, err := c.Do(context.Background(), ask("closed")); !errors.Is(err, conn.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		f.all.Wait()
	})
}

// Close ends requests in flight.
func TestCloseInFlight(t *testing.T) {
	waiting := make(chan struct{})
	f := &fake{serve: func(nc net.Conn) {
		if greet(nc, metadata()) != nil {
			return
		}
		_, _, _ = readRequest(nc)
		close(waiting)
		_, _, _ = readRequest(nc)
	}}
	c := f.conn(t)
	go func() {
		<-waiting
		c.Close()
	}()
	if _, err := c.Do(context.Background(), ask("a")); !errors.Is(err, conn.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// hostile gives what bytes say as answer to the first request after the
// handshake.
func hostile(answer []byte) *fake {
	return &fake{serve: func(nc net.Conn) {
		if greet(nc, metadata()) != nil {
			return
		}
		if _, _, err := readRequest(nc); err != nil {
			return
		}
		_, _ = nc.Write(answer)
	}}
}

func TestHostileAnswers(t *testing.T) {
	f := func(name string, answer []byte) {
		t.Helper()
		if _, err := hostile(answer).conn(t).Do(context.Background(), ask("a")); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	f("nothing", nil)
	f("size of 2 GiB", []byte{0x7f, 0xff, 0xff, 0xff})
	f("negative size", []byte{0x80, 0, 0, 0})
	f("size 0", []byte{0, 0, 0, 0})
	f("size, no bytes", []byte{0x0f, 0, 0, 0, 1, 2})
	f("wrong correlation id", []byte{0, 0, 0, 5, 9, 9, 9, 9, 0})
	f("body cut short", []byte{0, 0, 0, 5, 0, 0, 0, 2, 0})
}

// No bytes make Do panic, hang or leak.
func FuzzAnswer(f *testing.F) {
	good, err := wire.AppendResponse(nil, 9, 2, wire.NewMetadataResponse())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:7])
	f.Add([]byte{0, 0, 0, 5, 0, 0, 0, 2, 0})
	f.Fuzz(func(t *testing.T, answer []byte) {
		b := hostile(answer)
		c := conn.New("broker:9092", conn.Options{Dial: b.dial, MaxResponse: 1 << 16})
		_, _ = c.Do(context.Background(), ask("a"))
		c.Close()
		b.all.Wait()
	})
}
