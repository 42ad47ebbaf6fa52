package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/dafka"
)

// dafkaFlags are what all nodes of a mesh have: C's tools have the first four.
type dafkaFlags struct {
	configFile, pub, sub string
	verbose              bool
	options              []string
	http                 string
}

func newDafkaCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dafka",
		Short: "Publish and consume without brokers",
		Long: `Publish and consume without brokers: producers, consumers and stores find each other through towers, and records flow directly
between them (Dafka, ZeroMQ's RFC 46). Nodes of the C implementation take part unchanged.`,
		Example: `  barnabas dafka tower
  barnabas dafka store --data-dir ./store
  echo "hello" | barnabas dafka produce letters
  barnabas dafka consume letters --from-beginning`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDafkaTowerCmd(), newDafkaStoreCmd(), newDafkaProduceCmd(), newDafkaConsumeCmd(), newDafkaStatusCmd(), newDafkaBenchCmd(), newDafkaKeysCmd())
	return cmd
}

// add adds the flags. what is whom --pub and --sub are about.
func (f *dafkaFlags) add(cmd *cobra.Command, pub, sub string) {
	flags := cmd.Flags()
	flags.StringVarP(&f.configFile, "config", "c", "", "file with settings, in ZPL as C's nodes have it")
	flags.StringVar(&f.pub, "pub", "", pub)
	flags.StringVar(&f.sub, "sub", "", sub)
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "say what happens, on standard error")
	flags.StringArrayVarP(&f.options, "option", "o", nil, "a setting, key=value as producer/min_acks=2; may be repeated")
}

// addNode adds the flags of a node that is no tower.
func (f *dafkaFlags) addNode(cmd *cobra.Command) {
	f.add(cmd, "where towers speak: their --pub, several with commas (default tcp://127.0.0.1:5557)",
		"where towers hear: their --sub, several with commas (default tcp://127.0.0.1:5556)")
}

// load reads the file and the flags, which win.
func (f *dafkaFlags) load(cmd *cobra.Command, pub, sub string) (*dafka.Config, error) {
	c := dafka.DefaultConfig()
	if f.configFile != "" {
		var err error
		if c, err = dafka.LoadConfig(f.configFile); err != nil {
			return nil, &usageError{err}
		}
		for _, key := range c.Unknown() {
			fmt.Fprintf(cmd.ErrOrStderr(), "barnabas: %s: %s means nothing here and is ignored\n", f.configFile, key)
		}
	}
	for _, x := range [][2]string{{pub, f.pub}, {sub, f.sub}} {
		if x[1] == "" {
			continue
		}
		if err := c.Set(x[0], x[1]); err != nil {
			return nil, &usageError{err}
		}
	}
	for _, o := range f.options {
		key, value, ok := strings.Cut(o, "=")
		if !ok {
			return nil, usage("-o %q: want key=value", o)
		}
		if err := c.Set(strings.TrimSpace(key), value); err != nil {
			return nil, &usageError{err}
		}
	}
	if err := c.Check(); err != nil {
		return nil, &usageError{err}
	}
	return c, nil
}

func (f *dafkaFlags) loadNode(cmd *cobra.Command) (*dafka.Config, error) {
	return f.load(cmd, "beacon/pub_address", "beacon/sub_address")
}

// log says everything with --verbose, and otherwise what should not happen.
func (f *dafkaFlags) log(cmd *cobra.Command, verbose bool) *slog.Logger {
	level := slog.LevelWarn
	if f.verbose || verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
}

func newDafkaKeysCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make the keys of a mesh in which everything is encrypted",
		Long: `Make the keys of a mesh in which everything is encrypted (CURVE). Put what it prints into the file of every node and every tower of the mesh:
who has no such file can neither read nor write there. C's nodes know no encryption.`,
		Example: `  barnabas dafka keys > mesh.conf
  barnabas dafka tower -c mesh.conf`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			public, secret := dafka.GenerateKeys()
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"public_key": public, "secret_key": secret})
			}
			// Z85 has quotes of neither kind.
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "curve\n    public_key = \"%s\"\n    secret_key = \"%s\"\n", public, secret)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// untilStopped is a context that ends when the user, or the system, says so.
// That is how a node ends: it is no error.
func untilStopped(cmd *cobra.Command, close func(context.Context) error) error {
	<-cmd.Context().Done()
	return close(context.Background())
}

// openInput is the file, or standard input if there is none.
func openInput(cmd *cobra.Command, name string) (io.ReadCloser, error) {
	if name == "" {
		return io.NopCloser(cmd.InOrStdin()), nil
	}
	return os.Open(name)
}

// interruptible reads in until ctx ends, also where nothing comes: from somebody
// who types, and now wants to leave.
func interruptible(ctx context.Context, in io.Reader) io.Reader {
	read, write := io.Pipe()
	go func() {
		_, err := io.Copy(write, in)
		_ = write.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { _ = write.CloseWithError(ctx.Err()) })
	return read
}

// whyEnded is the first of the errors that says more than that the user has
// ended it.
func whyEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	return err
}
