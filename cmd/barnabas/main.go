// Command barnabas is a streaming log that speaks Kafka: a broker, the client
// commands for any Kafka cluster, and tools for log directories, in one binary.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit codes.
const (
	exitFailure     = 1   // asked for and not done: unreachable, refused, not found
	exitUsage       = 2   // asked for in a way that has no meaning
	exitInterrupted = 130 // ended by the user
)

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRootCmd()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	fmt.Fprintln(os.Stderr, "barnabas:", shownError(err))
	if isUsage(err) {
		return exitUsage
	}
	return exitFailure
}

// shownError is an error in lines, each of them as a terminal may have it.
func shownError(err error) string {
	lines := strings.Split(err.Error(), "\n")
	for i, l := range lines {
		lines[i] = shown(l)
	}
	return strings.Join(lines, "\n")
}

func newRootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:   "barnabas",
		Short: "A streaming log that Kafka clients cannot tell from Kafka",
		Long: `Barnabas is a streaming log in one binary that speaks Kafka's protocol.

Exit codes: 0 done; 1 failed (unreachable, refused, not found); 2 wrong usage;
130 interrupted.`,
		Example: `  barnabas serve
  echo "hello, K." | barnabas produce letters
  barnabas consume letters --from-beginning -n 1`,
		Args:          args(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
	root.AddCommand(commands()...)
	hideEmptyDefaults(root)
	return root
}

// hideEmptyDefaults keeps "(default [])" out of help, which cobra shows of lists of numbers.
func hideEmptyDefaults(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Value.Type() == "int32Slice" && f.DefValue == "[]" {
			f.DefValue = ""
		}
	})
	for _, c := range cmd.Commands() {
		hideEmptyDefaults(c)
	}
}

// commands are the subcommands, each from a file of its own.
func commands() []*cobra.Command {
	return []*cobra.Command{
		newServeCmd(),
		newTopicCmd(),
		newProduceCmd(),
		newConsumeCmd(),
		newTailCmd(),
		newConfigCmd(),
		newGroupCmd(),
		newTxnCmd(),
		newRollbackCmd(),
		newQuotaCmd(),
		newNodeCmd(),
		newDoctorCmd(),
		newLogCmd(),
		newDafkaCmd(),
		newBenchCmd(),
		newVersionCmd(),
	}
}

// parserNoise is what Go's parsers of numbers say beside what is wrong.
var parserNoise = regexp.MustCompile(`strconv\.\w+: parsing ".*": `)

func flagError(err error) error {
	return &usageError{errors.New(parserNoise.ReplaceAllString(err.Error(), ""))}
}

// usageError is a mistake in the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usage(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func isUsage(err error) bool { return errors.As(err, new(*usageError)) }

// args wraps a check of positional arguments so that its errors are usage
// errors, and say what is wanted where arguments are too few or too many.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		err := check(cmd, a)
		switch {
		case err == nil:
			return nil
		case cmd.HasSubCommands():
			return &usageError{err}
		}
		return usage("%w; usage: %s", err, cmd.UseLine())
	}
}
