package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/internal/config"
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
	if f.check() != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	m := f.open()
	defer m.Close()
	w, err := ask(ctx, m)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return slices.DeleteFunc(w, untypable), noFiles
}

// untypable reports a word that no shell should be offered: names of strangers may have ends of lines in them, and worse.
func untypable(word string) bool {
	name, _, _ := strings.Cut(word, "\t")
	return shown(name) != name
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

// completeTarget completes TYPE and NAME; found is false when both are there.
func (f *configFlags) completeTarget(have []string) (w []string, d cobra.ShellCompDirective, r resource, found bool) {
	if len(have) == 0 {
		for _, k := range configKinds() {
			w = append(w, k.word)
		}
		return append(w, quotaWords()...), noFiles, r, false
	}
	r, named, _, err := f.target(have)
	if err != nil {
		return nil, noFiles, r, false
	}
	if named {
		return nil, noFiles, r, true
	}
	w, d = f.asking(func(ctx context.Context, m *cluster.Map) (names []string, err error) {
		all, err := resourcesOf(ctx, m, r.configKind)
		for _, x := range all {
			names = append(names, x.name)
		}
		return names, err
	})
	return w, d, r, false
}

// completeKeys completes TYPE NAME KEY….
func (f *configFlags) completeKeys(_ *cobra.Command, have []string, _ string) ([]string, cobra.ShellCompDirective) {
	if w, d, ok := f.completeQuotas(have, quotaKeys()); ok {
		return w, d
	}
	w, d, r, found := f.completeTarget(have)
	if !found {
		return w, d
	}
	return f.completeKeysOf(r, "")
}

// completeQuotas completes NAME and then the quotas, behind a TYPE that has those.
func (f *configFlags) completeQuotas(have, quotas []string) (w []string, d cobra.ShellCompDirective, ok bool) {
	if len(have) == 0 {
		return nil, noFiles, false
	}
	q, _, ok := f.quotaTarget(have)
	if !ok || q.named {
		return quotas, noFiles, ok
	}
	w, d = f.asking(func(ctx context.Context, m *cluster.Map) (names []string, err error) {
		list, err := describeQuotas(ctx, m, nil, false)
		for _, l := range list {
			for _, p := range l.parts {
				if p.kind == q.part.kind && p.name != nil && !slices.Contains(names, *p.name) {
					names = append(names, *p.name)
				}
			}
		}
		return names, err
	})
	return w, d, true
}

// completeOption completes -o key=value of a broker.
func completeOption(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	var w []string
	if key, _, ok := strings.Cut(typed, "="); ok {
		for _, v := range valuesOf(kindBroker, key) {
			w = append(w, key+"="+v)
		}
		return w, noFiles
	}
	for _, k := range config.BrokerKeys() {
		w = append(w, k.Name+"=\t"+k.Doc)
	}
	return w, noFiles | cobra.ShellCompDirectiveNoSpace
}

// completePairs completes TYPE NAME KEY=VALUE…: the keys, and then values where
// there are only some.
func (f *configFlags) completePairs(_ *cobra.Command, have []string, typed string) ([]string, cobra.ShellCompDirective) {
	if w, d, ok := f.completeQuotas(have, quotaPairs()); ok {
		return w, d | cobra.ShellCompDirectiveNoSpace
	}
	w, d, r, found := f.completeTarget(have)
	if !found {
		return w, d
	}
	return f.completePairsOf(r, typed)
}

// completeTopicConfig completes -c key=value of a topic that may not be there.
func (f *clientFlags) completeTopicConfig(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	if key, _, ok := strings.Cut(typed, "="); ok {
		var w []string
		for _, v := range valuesOf(kindTopic, key) {
			w = append(w, key+"="+v)
		}
		return w, noFiles
	}
	var w []string
	for _, k := range config.TopicKeys() {
		w = append(w, k.Name+"=\t"+k.Doc)
	}
	return w, noFiles | cobra.ShellCompDirectiveNoSpace
}

func (f *clientFlags) completePairsOf(r resource, typed string) ([]string, cobra.ShellCompDirective) {
	key, _, ok := strings.Cut(typed, "=")
	if !ok {
		w, d := f.completeKeysOf(r, "=")
		return w, d | cobra.ShellCompDirectiveNoSpace
	}
	var w []string
	for _, v := range valuesOf(r.configKind, key) {
		w = append(w, key+"="+v)
	}
	return w, noFiles
}

func (f *clientFlags) completeKeysOf(r resource, suffix string) ([]string, cobra.ShellCompDirective) {
	return f.asking(func(ctx context.Context, m *cluster.Map) (keys []string, err error) {
		// What is not there yet (a subscription, a group) has the keys of any.
		list, err := describeConfig(ctx, m, r, describeOptions{docs: true})
		for _, s := range list {
			if suffix == "" || !s.ReadOnly {
				keys = append(keys, s.Key+suffix+"\t"+s.Doc)
			}
		}
		if r.configKind == kindBroker && r.name == "" { // A broker shows only those that are set.
			for _, k := range config.BrokerKeys() {
				if !k.ReadOnly() {
					keys = append(keys, k.Name+suffix+"\t"+k.Doc)
				}
			}
		}
		return keys, err
	})
}

// valuesOf are the values that a setting may have, where they can be counted.
func valuesOf(k configKind, key string) []string {
	if k == kindLogger {
		return []string{"DEBUG", "INFO", "WARN", "ERROR", "FATAL", "TRACE"}
	}
	switch key {
	case "cleanup.policy", "log.cleanup.policy":
		return []string{"delete", "compact", "compact,delete"}
	case "compression.type":
		return []string{"producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"}
	case "message.timestamp.type", "log.message.timestamp.type":
		return []string{"CreateTime", "LogAppendTime"}
	case "durability":
		return []string{"fsync", "os"}
	case "record.validation":
		return []string{"full", "header"}
	}
	lookup := config.LookupBrokerKey
	if k == kindTopic {
		lookup = config.LookupTopicKey
	}
	if c, ok := lookup(key); ok && c.Type == config.Boolean {
		return []string{"true", "false"}
	}
	return nil
}
