package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/barnabas-log/barnabas/internal/broker"
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/vfs"
)

// serveFlags are the flags of serve, as given.
type serveFlags struct {
	dataDir, listen, advertise, file, http, nodeID, logLevel, logFormat string
	pprof, dev, dafka                                                   bool
	options                                                             []string
}

func newServeCmd() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a broker",
		Long: `Run a broker that speaks Kafka. Without flags it listens on 127.0.0.1:9092 and keeps its data in ./barnabas-data.

Settings have Kafka's names. They come from flags, -o, the environment (BARNABAS_LOG_DIRS for log.dirs), a file, and defaults, in that order.`,
		Example: `  barnabas serve
  barnabas serve --data-dir /var/lib/barnabas --listen 0.0.0.0:9092 --advertise broker.example.com:9092
  barnabas serve --config /etc/kafka/server.properties
  barnabas serve -o num.partitions=3 -o durability=os
  barnabas serve --dev --data-dir "$(mktemp -d)" --listen 127.0.0.1:0`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := refuseEmpty(cmd); err != nil {
				return err
			}
			if cmd.Flags().Changed("http") && f.http == "" {
				f.http = "off"
			}
			return serve(cmd, &f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.dataDir, "data-dir", "", "directory for the data, or several with commas (log.dirs; default "+config.DefaultDataDir+")")
	flags.StringVar(&f.listen, "listen", "", "HOST:PORT to listen on (default "+config.DefaultListen+"); listeners, wherever it is set, wins over it")
	flags.StringVar(&f.advertise, "advertise", "", "HOST:PORT that clients are told; default is the address they came in by; advertised.listeners wins over it")
	flags.StringVar(&f.nodeID, "node-id", "", "number of this node (node.id; default 1)")
	flags.StringVar(&f.file, "config", "", "file with settings: Kafka's server.properties, or YAML")
	flags.StringVar(&f.http, "http", "", "HOST:PORT for /metrics, /live and /ready, or 'off' (http.listen; default 127.0.0.1:9644)")
	flags.BoolVar(&f.dev, "dev", false, "settings that make tests quick: groups do not wait for more members, coordinators have one partition")
	flags.StringArrayVarP(&f.options, "option", "o", nil, "a setting, `key=value`; may be repeated")
	flags.BoolVar(&f.pprof, "pprof", false, "serve Go's profiles at /debug/pprof/ beside the metrics (http.pprof)")
	flags.BoolVar(&f.dafka, "dafka", false, "be a store of a Dafka mesh, too (dafka.enable); -o dafka.config=FILE says where it is")
	flags.StringVar(&f.logLevel, "log-level", "", "debug, info, warn or error, and after commas room=level (log.level; default info)")
	flags.StringVar(&f.logFormat, "log-format", "", "text or json (log.format; default text)")
	complete(cmd, "option", completeOption)
	complete(cmd, "log-format", words("text", "json"))
	complete(cmd, "log-level", words("debug", "info", "warn", "error"))
	if err := cmd.MarkFlagDirname("data-dir"); err != nil {
		panic(err) // There is no such flag.
	}
	return cmd
}

// refuseEmpty refuses flags that are given without a value: a variable of a script that is not set must not make a broker
// of another directory, or of other settings. Only --http may be empty, which is off.
func refuseEmpty(cmd *cobra.Command) error {
	var errs []error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && f.Value.String() == "" && f.Name != "http" {
			errs = append(errs, usage("--%s is empty: give it a value, or leave it out", f.Name))
		}
	})
	return errors.Join(errs...)
}

// allOptions are those of --dev, and then those that were given, which win.
func (f *serveFlags) allOptions() []string {
	if !f.dev {
		return f.options
	}
	return append([]string{
		"group.initial.rebalance.delay.ms=0", "group.consumer.assignment.interval.ms=0", "offsets.topic.num.partitions=1",
		"transaction.state.log.num.partitions=1", "log.segment.delete.delay.ms=0",
	}, f.options...)
}

// sources says where the configuration comes from.
func (f *serveFlags) sources() config.Sources {
	s := config.Sources{
		Flags: map[string]string{}, Listen: f.listen, Advertise: f.advertise,
		Options: f.allOptions(), Environ: os.Environ(), File: f.file,
	}
	if f.dataDir != "" {
		s.Flags["log.dirs"] = f.dataDir
	}
	for key, value := range map[string]string{"node.id": f.nodeID, "log.level": f.logLevel, "log.format": f.logFormat} {
		if value != "" {
			s.Flags[key] = value
		}
	}
	if f.pprof {
		s.Flags["http.pprof"] = "true"
	}
	if f.dafka {
		s.Flags["dafka.enable"] = "true"
	}
	switch f.http {
	case "":
	case "off":
		s.Flags["http.listen"] = ""
	default:
		s.Flags["http.listen"] = f.http
	}
	return s
}

// logHandler writes in the form that is configured. Levels are the broker's
// affair.
func logHandler(w io.Writer, cfg *config.Broker) slog.Handler {
	o := &slog.HandlerOptions{Level: broker.LowestLevel}
	if cfg.LogFormat == "json" {
		return slog.NewJSONHandler(w, o)
	}
	return slog.NewTextHandler(w, o)
}

// serve runs a broker until it is told to stop.
func serve(cmd *cobra.Command, f *serveFlags) error {
	began := time.Now()
	cfg, warnings, err := config.Load(f.sources())
	if err != nil {
		return &usageError{err}
	}
	handler := logHandler(cmd.ErrOrStderr(), cfg)
	log, err := broker.RootLogger(handler, cfg.LogLevels)
	if err != nil {
		return &usageError{err}
	}
	for _, w := range warnings {
		log.Warn(w)
	}
	limitMemory(cfg)
	log.Info("configuration", "settings", settings(cfg))
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	b, err := broker.Start(broker.Options{Config: cfg, FS: vfs.OS{}, Log: slog.New(handler), Now: time.Now})
	if err != nil {
		return err
	}
	announce(cmd.OutOrStdout(), b, time.Since(began))
	warnUnreachable(log, cfg)
	select {
	case s := <-signals:
		log.Info("stopping", "signal", s.String())
	case err := <-b.Fatal():
		return err // Without a clean stop: what is on disk decides.
	}
	go func() {
		<-signals
		os.Exit(1) // Asked twice: at once.
	}()
	return b.Stop()
}

// announce says in one line that the broker is ready, and then what to try.
func announce(w io.Writer, b *broker.Broker, took time.Duration) {
	var addrs []string
	for _, l := range b.Bound() {
		addrs = append(addrs, l.Addr.String())
	}
	fmt.Fprintf(w, "barnabas is ready on %s (node %d, cluster %s, after %d ms)\n",
		strings.Join(addrs, ","), b.NodeID(), b.ClusterID(), took.Milliseconds())
}

// settings is what differs from the defaults, for the log.
func settings(cfg *config.Broker) string {
	var s []string
	for _, e := range cfg.Effective() {
		s = append(s, e.Key+"="+e.Value)
	}
	return strings.Join(s, " ")
}

// limitMemory tells the garbage collector how much this broker may take, unless
// GOMEMLIMIT already does: requests in flight, and as much again for the rest.
func limitMemory(cfg *config.Broker) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(2*cfg.InFlightBytes + 256<<20)
	}
}

// warnUnreachable warns where the broker cannot know how clients reach it.
func warnUnreachable(log *slog.Logger, cfg *config.Broker) {
	for _, l := range cfg.Listeners {
		if (l.Host == "" || l.Host == "0.0.0.0" || l.Host == "::") && len(cfg.Advertised) == 0 {
			log.Warn("clients are told the address they came in by; behind NAT or a container's port mapping, use --advertise", "listener", l.Name)
			return
		}
	}
}
