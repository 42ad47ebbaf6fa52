package quota

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Waits are those that Kafka's own classes gave (testdata/kafka.txt, recorded
// by tests/quota).
func TestRecordedWaits(t *testing.T) {
	file, err := os.Open("testdata/kafka.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	n := 0
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		use := strings.Fields(lines.Text())
		lines.Scan()
		if got, want := replay(t, use), lines.Text(); got != want {
			t.Fatalf("%s\nkafka %s\nours  %s", use, want, got)
		}
		n++
	}
	if n < 40 || lines.Err() != nil {
		t.Errorf("%d uses, %v", n, lines.Err())
	}
}

func replay(t *testing.T, use []string) string {
	t.Helper()
	num := func(s string) float64 {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	w := Window{int(num(use[1])), time.Duration(num(use[2])) * time.Second}
	began := time.Unix(0, 0)
	limits := NewLimits(map[Entity]float64{{Client: Everybody()}: num(use[3])})
	rates, buckets := NewMeter(Produce, w, began), NewMutations(w, began)
	rates.SetLimits(limits)
	buckets.SetLimits(limits)
	var out []string
	for i := 4; i < len(use); i += 2 {
		now, v := time.UnixMilli(int64(num(use[i]))), num(use[i+1])
		wait := rates.Charge(now, "", "c", v)
		if use[0] != "rate" {
			wait, _ = buckets.Charge(now, "", "c", v, use[0] == "strict")
		}
		out = append(out, strconv.FormatInt(wait.Milliseconds(), 10))
	}
	return strings.Join(out, " ")
}
