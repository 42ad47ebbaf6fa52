package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/cluster"
)

// completer offers words to the shell; each may have a tab and what it means
// behind it.
type completer = cobra.CompletionFunc

// noFiles is what every completer here ends with: none is about files.
const noFiles = cobra.ShellCompDirectiveNoFileComp

// complete gives a flag its completer.
func complete(cmd *cobra.Command, flag string, c completer) {
	if err := cmd.RegisterFlagCompletionFunc(flag, c); err != nil {
		panic(fmt.Sprintf("%s: --%s: %v", cmd.Name(), flag, err)) // No such flag, or twice: every test sees it.
	}
}

// words completes with what is always the same.
func words(w ...string) completer {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) { return w, noFiles }
}

// completionPatience is how long the shell may hang when no broker answers.
const completionPatience = 2 * time.Second

// asking completes with what a cluster says, nothing if it says nothing.
func (f *clientFlags) asking(ask func(ctx context.Context, m *cluster.Map) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.Background(), completionPatience)
	defer cancel()
	m := f.open()
	defer m.Close()
	w, err := ask(ctx, m)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return w, noFiles
}

// completeTopics offers the cluster's topics as the first argument.
func (f *clientFlags) completeTopics(_ *cobra.Command, have []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(have) > 0 {
		return nil, noFiles
	}
	return f.asking(topicNames)
}

func topicNames(ctx context.Context, m *cluster.Map) (names []string, err error) {
	resp, err := m.Metadata(ctx, nil, false)
	if err != nil {
		return nil, err
	}
	for _, t := range resp.Topics {
		if t.Name != nil {
			names = append(names, *t.Name)
		}
	}
	return names, nil
}

// completePartitions offers the partitions of the topic that is the first
// argument.
func (f *clientFlags) completePartitions(_ *cobra.Command, have []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(have) == 0 {
		return nil, noFiles
	}
	return f.asking(func(ctx context.Context, m *cluster.Map) (w []string, err error) {
		t, err := m.Topic(ctx, have[0])
		for _, p := range indexesOf(t) {
			w = append(w, strconv.Itoa(int(p)))
		}
		return w, err
	})
}
