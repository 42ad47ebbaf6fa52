// Command barnabas is a streaming log that speaks Kafka: a broker, the client
// commands for any Kafka cluster, and tools for log directories, in one binary.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitFailure = 1 // What was asked for did not work.
	exitUsage   = 2 // What was asked for is not clear.
)

func main() {
	err := newRootCmd().Execute()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "barnabas:", err)
	if errors.As(err, new(*usageError)) {
		os.Exit(exitUsage)
	}
	os.Exit(exitFailure)
}

// usageError is a mistake in the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usage(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func newRootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:           "barnabas",
		Short:         "A streaming log that speaks Kafka",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(newServeCmd())
	return root
}
