package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxScrape bounds what is read of /metrics, in bytes.
const maxScrape = 64 << 20

// metrics are the samples of a Prometheus text.
type metrics struct {
	url  string
	sums map[string]float64            // by name, added up over labels
	dirs map[string]map[string]float64 // of each data directory, by name
}

// scrape reads a /metrics page. It must not take long: nothing depends on it.
func scrape(ctx context.Context, url string) (*metrics, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	m, err := parseMetrics(io.LimitReader(resp.Body, maxScrape))
	if err != nil {
		return nil, err
	}
	m.url = url
	return m, nil
}

func parseMetrics(in io.Reader) (*metrics, error) {
	m := &metrics{sums: map[string]float64{}, dirs: map[string]map[string]float64{}}
	s := bufio.NewScanner(in)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		line := s.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		name, labels, value := cutSample(line)
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		m.sums[name] += n
		if _, rest, ok := strings.Cut(labels, `dir="`); ok {
			dir, _, _ := strings.Cut(rest, `"`)
			if m.dirs[dir] == nil {
				m.dirs[dir] = map[string]float64{}
			}
			m.dirs[dir][name] = n
		}
	}
	return m, s.Err()
}

// cutSample cuts name{labels} value; the labels may hold spaces and braces.
func cutSample(line string) (name, labels, value string) {
	open, shut := strings.IndexByte(line, '{'), strings.LastIndexByte(line, '}')
	if open >= 0 && shut > open {
		return line[:open], line[open+1 : shut], firstWord(line[shut+1:])
	}
	name, value, _ = strings.Cut(line, " ")
	return name, "", firstWord(value)
}

func firstWord(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), " ")
	return s
}

// errElsewhere says that metrics cannot be read from here.
var errElsewhere = errors.New("metrics are served to the broker's own machine only")

// metricsURL is where to ask for a broker's metrics, given its http.listen and
// the address by which it was reached.
func metricsURL(listen, address string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("http.listen %q: %w", listen, err)
	}
	broker, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	switch ip := net.ParseIP(host); {
	case host == "" || ip != nil && ip.IsUnspecified():
		host = broker
	case (host == "localhost" || ip != nil && ip.IsLoopback()) && !isLoopback(broker):
		return "", errElsewhere
	}
	return "http://" + net.JoinHostPort(host, port) + "/metrics", nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
