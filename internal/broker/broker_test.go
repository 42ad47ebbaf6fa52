package broker

import (
	"errors"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/vfs"
)

// quiet is a listener to which nobody comes.
type quiet struct {
	closed chan struct{}
}

func (q quiet) Accept() (net.Conn, error) {
	<-q.closed
	return nil, net.ErrClosed
}

func (q quiet) Close() error {
	select {
	case <-q.closed:
	default:
		close(q.closed)
	}
	return nil
}

func (q quiet) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9092} }

func start(fs vfs.FS, options ...string) (*Broker, error) {
	cfg, _, err := config.Load(config.Sources{
		Flags: map[string]string{"http.listen": ""}, Options: append([]string{"log.dirs=/a"}, options...), MemoryBytes: 1 << 30,
	})
	if err != nil {
		return nil, err
	}
	return Start(Options{
		Config: cfg, FS: fs, Log: slog.New(slog.DiscardHandler), Now: time.Now,
		Listen: func(string, string) (net.Listener, error) { return quiet{make(chan struct{})}, nil },
	})
}

func mustStart(t *testing.T, fs vfs.FS, options ...string) *Broker {
	t.Helper()
	b, err := start(fs, options...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A node keeps its identity, is elected anew at each start, and gives back all
// it holds when it stops, or does not start: synctest would see a goroutine
// that stays.
func TestIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		b := mustStart(t, mem, "node.id=7")
		cluster, epoch := b.ClusterID(), b.quorum.Epoch()
		if b.NodeID() != 7 {
			t.Errorf("node %d", b.NodeID())
		}
		if _, err := start(mem); !errors.Is(err, vfs.ErrLocked) || !strings.Contains(err.Error(), "in use by another broker") {
			t.Errorf("second broker: %v", err)
		}
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
		if _, err := start(mem, "node.id=8"); !errors.Is(err, datadir.ErrIdentity) {
			t.Errorf("another node id: %v", err)
		}
		b = mustStart(t, mem)
		if b.NodeID() != 7 || b.ClusterID() != cluster || b.quorum.Epoch() != epoch+1 {
			t.Errorf("node %d, cluster %s, epoch %d", b.NodeID(), b.ClusterID(), b.quorum.Epoch())
		}
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// copyMeta copies the identity of one data directory to another.
func copyMeta(t *testing.T, fs vfs.FS, from, to string) {
	t.Helper()
	b, err := vfs.ReadFile(fs, from+"/meta.properties", 1<<20)
	if err == nil {
		err = fs.MkdirAll(to)
	}
	if err == nil {
		err = vfs.WriteFile(fs, to+"/meta.properties", b)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Two directories belong to one node; the second may be missing, the first,
// with the metadata log, may not.
func TestTwoDirectories(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		broken := ""
		fs := vfs.NewFaulty(mem, func(o vfs.Op) error {
			if broken != "" && strings.HasPrefix(o.Path, broken) {
				return errors.New("input/output error")
			}
			return nil
		})
		run := func(dirs string) error {
			b, err := start(fs, "log.dirs="+dirs)
			if err == nil {
				err = b.Stop()
			}
			return err
		}
		f := func(fail, dirs string, ok bool) {
			t.Helper()
			broken = fail
			if err := run(dirs); (err == nil) != ok {
				t.Errorf("broken %q, dirs %s: %v", fail, dirs, err)
			}
		}
		f("", "/x,/y", true)
		f("/y", "/x,/y", true)
		f("/x", "/x,/y", false)
		f("", "/x,/y", true)
		f("", "/z", true)
		f("", "/x,/z", false) // Of another cluster.
	})
}

// What keeps a node from its directory is one sentence that says what to do.
func TestDirectoryRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := func(fs vfs.FS, want string, options ...string) {
			t.Helper()
			b, err := start(fs, options...)
			if err == nil {
				t.Fatal(b.Stop())
			}
			if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want %q", err, want)
			}
		}
		fails := func(err error) vfs.FS {
			return vfs.NewFaulty(vfs.NewMem(), func(o vfs.Op) error {
				if strings.HasPrefix(o.Path, "/a") {
					return err
				}
				return nil
			})
		}
		f(fails(syscall.EROFS), "mounted read-only: mount it for writing")
		f(fails(syscall.EACCES), "may not write there: change its owner")
		mem := vfs.NewMem()
		b := mustStart(t, mem, "node.id=7")
		f(mem, "stop that one, or give this one its own directory")
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
		f(mem, "/a/meta.properties has node.id 7, the configuration 8: set node.id to 7", "node.id=8")
		other := mustStart(t, mem, "node.id=7", "log.dirs=/b")
		if err := other.Stop(); err != nil {
			t.Error(err)
		}
		f(mem, "take it out of log.dirs", "node.id=7", "log.dirs=/a,/b")
		f(mem, "named twice in log.dirs: take one out", "log.dirs=/a,/b/../a")
		f(vfs.NewMem(), "named twice in log.dirs: take one out", "log.dirs=/a,/b,/b/")
		copyMeta(t, mem, "/a", "/c")
		f(mem, "data directories /a and /c have the same directory.id, so one is a copy of the other", "log.dirs=/a,/c")
		if err := mem.Remove("/a/meta.properties"); err != nil {
			t.Fatal(err)
		}
		f(mem, "/a has a metadata log and no meta.properties: restore that from a backup")
		copyMeta(t, mem, "/c", "/a")
		if err := mustStart(t, mem).Stop(); err != nil {
			t.Error(err)
		}
	})
}
