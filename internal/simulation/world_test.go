package simulation

import (
	"flag"
	"log/slog"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
)

var (
	worlds = flag.Int("worlds", 40, "how many worlds to run, times $BARNABAS_WORLDS")
	first  = flag.Uint64("seed", 1, "seed of the first world")
	logs   = flag.Bool("logs", false, "show what the broker logs after the crash")
)

// Whatever the moment at which the power fails or the process is killed, while
// it starts too: what was acknowledged is there after the restart, once where the
// producer is idempotent, and topics are whole or not there at all. With
// durability=os a power cut, and nothing else, may take acknowledged records.
func TestPromisesSurvive(t *testing.T) {
	n := uint64(*worlds)
	if times, err := strconv.ParseUint(os.Getenv("BARNABAS_WORLDS"), 10, 16); err == nil {
		n *= max(times, 1)
	}
	for i := range n {
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
