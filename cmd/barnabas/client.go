package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/conn"
	"github.com/barnabas-log/barnabas/wire"
)

// clientFlags are those of every command that talks to a cluster.
type clientFlags struct {
	brokers []string
	timeout time.Duration
	json    bool
}

func (f *clientFlags) add(cmd *cobra.Command) {
	brokers := os.Getenv("BARNABAS_BROKERS")
	if brokers == "" {
		brokers = "127.0.0.1:9092"
	}
	flags := cmd.PersistentFlags()
	flags.StringSliceVarP(&f.brokers, "brokers", "b", strings.Split(brokers, ","), "brokers to begin with, host:port (BARNABAS_BROKERS)")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Second, "how long one request, with its retries, may take")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	cmd.PersistentPreRunE = func(*cobra.Command, []string) error { return f.check() }
}

// check looks at the flags before anything is done, and makes the brokers addresses.
func (f *clientFlags) check() error {
	if f.timeout <= 0 {
		return usage("--timeout %s: want more than 0", f.timeout)
	}
	var err error
	f.brokers, err = brokerAddresses(f.brokers)
	return err
}

// brokerAddresses are host:port of each of the brokers that somebody named: a host alone has Kafka's usual port, and Kafka's
// own form, PLAINTEXT://host:port, will do.
func brokerAddresses(named []string) ([]string, error) {
	var out []string
	for _, text := range named {
		address := strings.TrimSpace(text)
		if address == "" {
			continue
		}
		if scheme, rest, ok := strings.Cut(address, "://"); ok && strings.EqualFold(scheme, "PLAINTEXT") {
			address = rest
		}
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			host, port = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]"), "9092"
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || host == "" || strings.ContainsAny(host, "/[] ") || strings.Contains(host, ":") && !isIP(host) {
			return nil, usage("broker %q: want host:port", text)
		}
		out = append(out, net.JoinHostPort(host, port))
	}
	if len(out) == 0 {
		return nil, usage("no broker is named: want --brokers host:port")
	}
	return out, nil
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// open returns a client of the cluster. It has not dialled yet.
func (f *clientFlags) open() *cluster.Map {
	o := conn.Options{ClientID: "barnabas-cli", SoftwareVersion: softwareVersion()}
	return cluster.New(f.brokers, func(address string) cluster.Conn { return conn.New(address, o) })
}

// softwareVersion is buildVersion in the letters that KIP-511 allows.
func softwareVersion() string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r == '.' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, buildVersion().Version), ".-")
}

// retryPause is how long the client waits before it asks again: long enough for
// an election in one node, short enough not to be noticed.
const retryPause = 100 * time.Millisecond

// retry calls f until it succeeds, fails for good or the context ends. The last
// failure is returned, not only that time is up.
func retry(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil || !retriable(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryPause):
		}
	}
}

// retriable reports an error that may pass: Kafka says so of its code, or the
// connection could not be made or broke.
func retriable(err error) bool {
	var code wire.ErrorCode
	if errors.As(err, &code) {
		return code.Retriable()
	}
	return errors.As(err, new(net.Error)) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// bounded returns f's context for one request.
func (f *clientFlags) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("no success within %s: %w", f.timeout, context.DeadlineExceeded))
}

// refusal is an error code with the broker's own words, if it has any.
func refusal(code int16, message *string) error {
	c := wire.ErrorCode(code)
	switch {
	case c == wire.None:
		return nil
	case message != nil && *message != "":
		return fmt.Errorf("%w: %s", c, *message)
	case c.Message() != "":
		return fmt.Errorf("%w: %s", c, c.Message())
	}
	return c
}

// ofTopic makes cmd a command about one topic, its only argument.
func (f *clientFlags) ofTopic(cmd *cobra.Command, run func(cmd *cobra.Command, topic string) error) *cobra.Command {
	cmd.Args = args(cobra.ExactArgs(1))
	cmd.ValidArgsFunction = f.completeTopics
	cmd.RunE = func(cmd *cobra.Command, a []string) error { return run(cmd, a[0]) }
	return cmd
}

func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
