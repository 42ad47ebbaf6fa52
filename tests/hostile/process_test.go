package hostile

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// process looks at the broker from outside, through /proc and its metrics.
type process struct {
	t    *testing.T
	pid  int
	http string // host:port

	peak atomic.Int64 // Of resident, since watch began.
}

// resident is the memory of the process in bytes.
func (p *process) resident() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.pid))
	if err != nil {
		p.t.Error(err)
		return 0
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		p.t.Error(err)
	}
	return pages * int64(os.Getpagesize())
}

// watch samples the memory until stop is called, which returns the peak.
func (p *process) watch() (stop func() int64) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			p.peak.Store(max(p.peak.Load(), p.resident()))
			select {
			case <-tick.C:
			case <-end:
				tick.Stop()
				return
			}
		}
	}()
	return func() int64 { close(end); <-ended; return p.peak.Load() }
}

// ticks is the unit of /proc/PID/stat: Linux shows users hundredths of a
// second, whatever it counts by.
const ticks = time.Second / 100

// cpu is the processor time that the process has used.
func (p *process) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		p.t.Error(err)
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ") // The name may hold anything.
	f := strings.Fields(rest)
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * ticks
}

// files is how many descriptors are open.
func (p *process) files() int {
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid))
	if err != nil {
		p.t.Error(err)
	}
	return len(all)
}

// metric reads one value without labels.
func (p *process) metric(name string) int {
	r, err := http.Get("http://" + p.http + "/metrics")
	if err != nil {
		p.t.Error(err)
		return 0
	}
	defer r.Body.Close()
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			f, err := strconv.ParseFloat(value, 64)
			if err != nil {
				p.t.Error(err)
			}
			return int(f)
		}
	}
	p.t.Errorf("no metric %s", name)
	return 0
}
