package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// serveHTTP serves /metrics, /live and /ready, and Go's profiles if they are
// asked for, from the beginning of a start on. A port that is taken is an error only if somebody asked for it.
func (b *Broker) serveHTTP() error {
	if b.config.HTTPListen == "" {
		return nil
	}
	l, err := net.Listen("tcp", b.config.HTTPListen)
	if err != nil {
		if b.config.HTTPListenGiven {
			return fmt.Errorf("http: %w", explainListen(err, "http.listen"))
		}
		b.log("broker").Warn("metrics not served: the port is taken", "err", err)
		return nil
	}
	b.http = pageServer(b.pages())
	b.httpAddr = l.Addr()
	b.running.Go(func() {
		if err := b.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			b.log("broker").Error("http ended", "err", err)
		}
	})
	return nil
}

const (
	// maxScrapes is how many scrapes may run at a time: more is a mistake, or
	// somebody who wants the broker busy.
	maxScrapes = 4
	// writeTimeout is how long somebody may take to read an answer, far more than
	// Prometheus waits: who does not read would else keep a place among maxScrapes.
	// Profiles have theirs in addition.
	writeTimeout = 30 * time.Second
	// idleTimeout is how long a connection may rest between two requests: a few
	// times what lies between two scrapes.
	idleTimeout = 5 * time.Minute
)

// pageServer bounds how long strangers may keep a connection.
func pageServer(pages http.Handler) *http.Server {
	return &http.Server{Handler: pages, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout}
}

// pages are what the port answers. Nothing of it goes through the default mux,
// where packages register what they like.
func (b *Broker) pages() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &collector{b})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes}))
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "live\n") })
	mux.HandleFunc("GET /ready", b.answerReady)
	if b.config.HTTPPprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// notReady says why the node cannot do what it is for: "" if it serves and none
// of its partitions is offline.
func (b *Broker) notReady() string {
	if !b.ready.Load() {
		return "not ready"
	}
	if t := b.replicas.Load().Totals(); t.Offline > 0 {
		return fmt.Sprintf("%d of %d partitions are offline", t.Offline, t.Partitions)
	}
	return ""
}

func (b *Broker) answerReady(w http.ResponseWriter, _ *http.Request) {
	if why := b.notReady(); why != "" {
		http.Error(w, why, http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "ready\n")
}

// HTTPAddr is where metrics are served, nil if they are not.
func (b *Broker) HTTPAddr() net.Addr { return b.httpAddr }

func (b *Broker) stopHTTP(ctx context.Context) {
	if b.http != nil {
		b.http.Shutdown(ctx)
	}
}
