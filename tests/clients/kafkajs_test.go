package clients

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/barnabas-log/barnabas/tests/node"
)

// TestKafkaJS drives KafkaJS, which cannot read without a group and has gzip only.
func TestKafkaJS(t *testing.T) {
	t.Parallel()
	js, npm := node.Tool(t, "node"), node.Tool(t, "npm")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("kafkajs")); err != nil {
		t.Fatal(err)
	}
	run(t, "", npm, "ci", "--prefix", dir, "--no-audit", "--no-fund", "--loglevel", "error")
	program := filepath.Join(dir, "client.js")
	n := node.Start(t)
	t.Run("admin", func(t *testing.T) { run(t, "", js, program, "admin", n.Addr) })
	t.Run("produce", func(t *testing.T) {
		var topics []string
		for _, codec := range []string{"none", "gzip"} {
			for _, acks := range []string{"0", "1", "all", "idempotent"} {
				topics = append(topics, "js-"+codec+"-"+acks)
				create(t, n, topics[len(topics)-1])
			}
		}
		run(t, "", js, program, "produce", n.Addr)
		for _, topic := range topics {
			wantSamples(t, n, topic)
		}
	})
	t.Run("offsets", func(t *testing.T) {
		writeSamples(t, n, "js-offsets")
		run(t, "", js, program, "offsets", n.Addr)
	})
	t.Run("kill", func(t *testing.T) {
		create(t, n, "js-restart")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		overRestart(t, exec.CommandContext(ctx, js, program, "restart", n.Addr), n, n.Kill)
		wantSamples(t, n, "js-restart")
	})
}
