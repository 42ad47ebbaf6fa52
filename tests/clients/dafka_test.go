package clients

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/dafka"
	"github.com/barnabas-log/barnabas/dafka/tower"
	"github.com/barnabas-log/barnabas/tests/node"
)

// TestDafka: what Dafka producers publish, Kafka's clients read, with the same
// offsets; and what they write, Dafka consumers.
func TestDafka(t *testing.T) {
	t.Parallel()
	config, n := startBridge(t)
	var addresses, want []string
	for i := range 2 {
		p, err := dafka.NewProducer("letters", dafka.ProducerOptions{Config: config})
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, publish(t, p, i)...)
		addresses = append(addresses, p.Address())
	}
	t.Run("kcat", func(t *testing.T) {
		t.Parallel()
		kcat := node.Tool(t, "kcat")
		out := run(t, "", kcat, "-b", n.Addr, "-q", "-C", "-t", "letters", "-o", "beginning", "-e", "-f", "%p %o null %s\n")
		wantSet(t, strings.Split(strings.TrimRight(out, "\n"), "\n"), want)
		run(t, strings.Repeat("x\n", 3), kcat, "-b", n.Addr, "-q", "-P", "-t", "rdkafka", "-X", "topic.metadata.refresh.interval.ms=100")
		run(t, "", node.Binary(t), "config", "set", "-b", n.Addr, "topic", "rdkafka", "dafka.publish=true")
		run(t, strings.Repeat("y\n", 2), kcat, "-b", n.Addr, "-q", "-P", "-t", "rdkafka", "-z", "lz4")
		wantConsumed(t, config, "rdkafka", "x", "x", "x", "y", "y")
	})
	t.Run("java", func(t *testing.T) {
		t.Parallel()
		j := compileJava(t)
		got := sections(j.runClass(t, "Dafka", "read", n.Addr, "letters", fmt.Sprint(len(want))))
		if p := strings.Join(addresses, ","); len(got["producers"]) != 1 || got["producers"][0] != p {
			t.Errorf("producers are %v, want %s", got["producers"], p)
		}
		wantSet(t, got["records"], want)
		j.runClass(t, "Dafka", "write", n.Addr, "java")
		wantConsumed(t, config, "java", "0", "1", "2", "3", "", "", "", "5")
	})
}

// startBridge starts a tower, and a broker in its mesh.
func startBridge(t *testing.T) (*dafka.Config, *node.Node) {
	t.Helper()
	c := dafka.DefaultConfig()
	c.Tower.Sub, c.Tower.Pub = "tcp://127.0.0.1:*", "tcp://127.0.0.1:*"
	w, err := tower.New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close(context.Background()) })
	text := fmt.Sprintf("beacon\n    sub_address = %q\n    pub_address = %q\n    bind = \"tcp://127.0.0.1:*\"\n    address = \"127.0.0.1\"\n    interval = 100\n"+
		"consumer\n    offset\n        reset = earliest\n", w.Sub(), w.Pub())
	file := filepath.Join(t.TempDir(), "mesh.zpl")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err = dafka.LoadConfig(file); err != nil {
		t.Fatal(err)
	}
	return c, node.Start(t, append(quickGroups, "dafka.enable=true", "dafka.config="+file)...)
}

// publish publishes records of many sizes until the broker has them, and returns
// what a consumer that reads the partition prints.
func publish(t *testing.T, p *dafka.Producer, partition int) (rows []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for i := range 500 {
		content := fmt.Sprintf("%d of %s%s", i, p.Address(), strings.Repeat("-", i*i*i/1000))
		if _, err := p.Publish(ctx, []byte(content)); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, fmt.Sprintf("%d %d null %s", partition, i, content))
	}
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
	return rows
}

func wantSet(t *testing.T, got, want []string) {
	t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("%d records are read that are not the %d that were published", len(got), len(want))
	}
}

// wantConsumed consumes a topic in the mesh from its beginning.
func wantConsumed(t *testing.T, config *dafka.Config, topic string, want ...string) {
	t.Helper()
	c, err := dafka.NewConsumer(dafka.ConsumerOptions{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithTimeout(t.Context(), time.Second)
	cancel()
	defer c.Close(ended)
	if err := c.Subscribe(topic); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for i, w := range want {
		r, err := c.Next(ctx)
		if err != nil || r.Sequence != uint64(i) || string(r.Content) != w {
			t.Fatalf("record %d is %+v, %v; want %q", i, r, err, w)
		}
	}
}
