package simulation

import (
	"flag"
	"log/slog"
	"testing"
	"testing/synctest"
)

var (
	worlds = flag.Int("worlds", 60, "how many worlds to run")
	first  = flag.Uint64("seed", 1, "seed of the first world")
	logs   = flag.Bool("logs", false, "show what the broker logs after the crash")
)

// Whatever the moment at which the power fails: what was acknowledged is there
// after the restart, topics are whole or not there at all.
func TestPromisesSurviveAPowerCut(t *testing.T) {
	for i := range uint64(*worlds) {
		seed := *first + i
		synctest.Test(t, func(t *testing.T) {
			w := NewWorld(seed)
			if *logs {
				w.Log = slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})
			}
			if err := w.Run(); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		})
		if t.Failed() {
			return
		}
	}
}
