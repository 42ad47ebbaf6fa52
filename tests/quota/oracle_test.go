package quota

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/barnabas-log/barnabas/internal/quota"
	"github.com/barnabas-log/barnabas/tests/kafka"
	"github.com/barnabas-log/barnabas/tests/node"
)

var recordAnew = flag.Bool("record", false, "write down what Kafka's classes say, for internal/quota")

const recording = "../../internal/quota/testdata/kafka.txt"

// use is one line for the oracle.
type use struct {
	kind    string
	samples int
	seconds int
	bound   float64
	times   []int64
	values  []float64
}

func (u *use) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %d %s", u.kind, u.samples, u.seconds, number(u.bound))
	for i := range u.times {
		fmt.Fprintf(&b, " %d %s", u.times[i], number(u.values[i]))
	}
	return b.String()
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// anyUse is a client that now floods, now pauses.
func anyUse(rng *rand.Rand) *use {
	u := &use{
		kind:    []string{"rate", "permissive", "strict"}[rng.IntN(3)],
		samples: 1 + rng.IntN(12), seconds: 1 + rng.IntN(3), bound: float64(1 + rng.IntN(1000)),
	}
	now := int64(1_700_000_000_000)
	for range 60 {
		switch rng.IntN(10) {
		case 0:
			now += rng.Int64N(60_000)
		case 1, 2:
		default:
			now += rng.Int64N(1500)
		}
		u.times = append(u.times, now)
		u.values = append(u.values, float64(rng.IntN(int(2*u.bound))))
	}
	return u
}

// waits is what our machine says.
func (u *use) waits() string {
	w := quota.Window{Samples: u.samples, Length: seconds(u.seconds)}
	var (
		rate   quota.Rate
		bucket quota.Bucket
		out    []string
	)
	for i, now := range u.times {
		ms := int64(0)
		switch {
		case u.kind == "rate":
			rate.Record(w, u.values[i], now)
			ms = rate.Wait(w, u.bound, now)
		case u.kind == "strict" && bucket.Tokens(w, u.bound, now) < 0:
			ms = bucket.Wait(w, u.bound, now)
		case u.kind == "strict":
			bucket.Take(w, u.bound, u.values[i], now)
		default:
			bucket.Take(w, u.bound, u.values[i], now)
			ms = bucket.Wait(w, u.bound, now)
		}
		out = append(out, strconv.FormatInt(ms, 10))
	}
	return strings.Join(out, " ")
}

// Kafka's Rate and TokenBucket make clients wait as long as ours do, to the millisecond, whatever they do.
func TestWaitsAsKafka(t *testing.T) {
	seed := rand.Uint64()
	if *recordAnew {
		seed = 1
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var uses []*use
	var in bytes.Buffer
	for range 300 {
		u := anyUse(rng)
		uses = append(uses, u)
		fmt.Fprintln(&in, u)
	}
	answers := oracle(t, &in)
	if len(answers) != len(uses) {
		t.Fatalf("%d answers to %d questions", len(answers), len(uses))
	}
	for i, u := range uses {
		if got := u.waits(); got != answers[i] {
			t.Fatalf("%s\nkafka %s\nours  %s", u, answers[i], got)
		}
	}
	if *recordAnew {
		write(t, uses[:40], answers)
	}
}

func oracle(t *testing.T, in *bytes.Buffer) []string {
	t.Helper()
	file, err := filepath.Abs("java/Oracle.java")
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := kafka.Java(kafka.Clients, file)
	if errors.Is(err, kafka.ErrMissing) {
		node.Missing(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = in, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func write(t *testing.T, uses []*use, answers []string) {
	t.Helper()
	var b strings.Builder
	b.WriteString("# Uses, and for each the milliseconds that Kafka 4.4.0's Rate and TokenBucket make the client wait.\n" +
		"# Written by: cd tests && go test ./quota -run TestWaitsAsKafka -record\n")
	for i, u := range uses {
		fmt.Fprintf(&b, "%s\n%s\n", u, answers[i])
	}
	if err := os.WriteFile(recording, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
