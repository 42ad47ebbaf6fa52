package zmtp

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// raw is a peer that is no socket but a test's bytes.
type raw struct {
	t    testing.TB
	conn net.Conn
}

// dial connects to a socket of ours.
func dial(t testing.TB, endpoint string) raw {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(endpoint, "tcp://"))
	if err != nil {
		t.Fatal(err)
	}
	return newRaw(t, conn)
}

func newRaw(t testing.TB, conn net.Conn) raw {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return raw{t, conn}
}

func (r raw) write(parts ...[]byte) {
	r.t.Helper()
	if _, err := r.conn.Write(bytes.Join(parts, nil)); err != nil {
		r.t.Fatal(err)
	}
}

// expect reads as many bytes as there are, and compares them.
func (r raw) expect(parts ...[]byte) {
	r.t.Helper()
	want := bytes.Join(parts, nil)
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r.conn, got); err != nil {
		r.t.Fatalf("%v after % x, want % x", err, got[:n], want)
	}
	if !bytes.Equal(got, want) {
		r.t.Fatalf("got % x\n%q, want % x\n%q", got, got, want, want)
	}
}

// expectEnd reads until the socket closes the connection.
func (r raw) expectEnd() {
	r.t.Helper()
	_, err := io.Copy(io.Discard, r.conn)
	if e := net.Error(nil); errors.As(err, &e) && e.Timeout() {
		r.t.Fatal("the connection is not closed")
	}
	_ = r.conn.Close()
}

// greet shakes hands as a socket of that type and of ZMTP 3.minor.
func (r raw) greet(socketType string, minor byte) {
	r.t.Helper()
	r.write(greeting(minor), ready(socketType))
	got := make([]byte, greetingSize)
	if _, err := io.ReadFull(r.conn, got); err != nil {
		r.t.Fatal(err)
	}
}

// greeting is written out here, and not taken from the code that it tests.
func greeting(minor byte) []byte {
	return []byte("\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03" + string([]byte{minor}) + "NULL" + strings.Repeat("\x00", 16) + "\x00" + strings.Repeat("\x00", 31))
}

func ready(socketType string) []byte {
	return command("READY", "\x0bSocket-Type\x00\x00\x00"+string([]byte{byte(len(socketType))})+socketType)
}

// command is a short command in its frame, message a frame of a message.
func command(name, rest string) []byte {
	return append([]byte{4, byte(1 + len(name) + len(rest)), byte(len(name))}, name+rest...)
}

func message(flags byte, body string) []byte {
	return append([]byte{flags, byte(len(body))}, body...)
}
