package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// serveHTTP serves /metrics, /live and /ready. A port that is taken is an
// error only if somebody asked for it.
func (b *Broker) serveHTTP() error {
	if b.config.HTTPListen == "" {
		return nil
	}
	l, err := net.Listen("tcp", b.config.HTTPListen)
	if err != nil {
		if b.config.HTTPListenGiven {
			return fmt.Errorf("http: %w", err)
		}
		b.log("broker").Warn("metrics not served: the port is taken", "err", err)
		return nil
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &collector{b})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "live\n") })
	mux.HandleFunc("GET /ready", b.answerReady)
	b.http = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	b.httpAddr = l.Addr()
	b.running.Go(func() {
		if err := b.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			b.log("broker").Error("http ended", "err", err)
		}
	})
	return nil
}

// answerReady says whether the node can do what it is for: it serves, and none
// of its partitions is offline.
func (b *Broker) answerReady(w http.ResponseWriter, _ *http.Request) {
	switch t := b.replicas.Load().Totals(); {
	case !b.ready.Load():
		http.Error(w, "not ready", http.StatusServiceUnavailable)
	case t.Offline > 0:
		http.Error(w, fmt.Sprintf("%d of %d partitions are offline", t.Offline, t.Partitions), http.StatusServiceUnavailable)
	default:
		io.WriteString(w, "ready\n")
	}
}

// HTTPAddr is where metrics are served, nil if they are not.
func (b *Broker) HTTPAddr() net.Addr { return b.httpAddr }

func (b *Broker) stopHTTP(ctx context.Context) {
	if b.http != nil {
		b.http.Shutdown(ctx)
	}
}
