package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// figure is a metric of a node without brokers.
type figure struct {
	name, kind, help string // Without dafka_ before it.
	value            float64
}

func (f *dafkaFlags) addHTTP(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.http, "http", "", "HOST:PORT for /metrics, /live and /ready")
}

// pages are the running pages; nil are none.
type pages struct{ server *http.Server }

// serveHTTP serves metrics, if that is asked for. Whoever answers is live; missing
// says what it is not ready for want of, or nothing.
func (f *dafkaFlags) serveHTTP(missing func() string, figures func() []figure) (*pages, error) {
	if f.http == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", f.http)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "live\n") })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if what := missing(); what != "" {
			http.Error(w, what, http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "ready\n")
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		for _, x := range figures() {
			fmt.Fprintf(w, "# HELP dafka_%s %s\n# TYPE dafka_%[1]s %[3]s\ndafka_%[1]s %[4]v\n", x.name, x.help, x.kind, x.value)
		}
	})
	p := &pages{&http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}}
	go func() { _ = p.server.Serve(l) }()
	return p, nil
}

func (p *pages) close() {
	if p != nil {
		_ = p.server.Close()
	}
}

// reachable is an endpoint by which this machine reaches what listens on it.
func reachable(endpoint string) string { return strings.Replace(endpoint, "*", "127.0.0.1", 1) }
