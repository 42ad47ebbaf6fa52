package main

import (
	"context"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/cluster"
)

// What is set for users, clients and addresses are quotas. Kafka's tools set
// them by the same command as all other settings, and so config takes them.

// quotaWords are the TYPEs that have quotas.
func quotaWords() []string { return []string{"client", "user", "ip"} }

// quotaTarget is whose quotas a config command is about: one, the default, or,
// without a NAME, all of a kind.
type quotaTarget struct {
	word  string
	part  part
	named bool
}

// quotaTarget reads TYPE and NAME, and returns what comes behind them; ok is
// false for a TYPE that has no quotas.
func (f *configFlags) quotaTarget(a []string) (q quotaTarget, rest []string, ok bool) {
	for _, word := range quotaWords() {
		if a[0] == word || a[0] == word+"s" {
			q.word, ok = word, true
		}
	}
	if !ok {
		return q, a, false
	}
	q.part.kind, rest = q.word, a[1:]
	if q.word == "client" {
		q.part.kind = entityClient
	}
	if q.named = f.defaults; !q.named && len(rest) > 0 {
		q.named, q.part.name, rest = true, &rest[0], rest[1:]
	}
	return q, rest, true
}

// describeQuotas shows the quotas of one, or of all of a kind.
func (f *describeFlags) describeQuotas(cmd *cobra.Command, q quotaTarget, keys []string) error {
	var whose []part
	if q.named {
		whose = []part{q.part}
	}
	list := []quotaLine{}
	err := f.with(cmd.Context(), func(ctx context.Context, m *cluster.Map) (err error) {
		list, err = describeQuotas(ctx, m, whose, q.named)
		return err
	})
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(l quotaLine) bool {
		maps.DeleteFunc(l.Quotas, func(k string, _ float64) bool { return len(keys) > 0 && !slices.Contains(keys, k) })
		return len(l.Quotas) == 0 || !slices.ContainsFunc(l.parts, func(p part) bool { return p.kind == q.part.kind })
	})
	return f.print(cmd.OutOrStdout(), list, func(out io.Writer) error { return showQuotas(out, list) })
}

// setQuotas changes quotas of one.
func (f *changeFlags) setQuotas(cmd *cobra.Command, q quotaTarget, pairs []string) error {
	switch {
	case !q.named:
		return usage("which %s?", q.word)
	case len(f.appended)+len(f.subtracted) > 0:
		return usage("--append and --subtract are for lists: the quotas of a %s are numbers", q.word)
	case len(pairs) == 0:
		return usage("nothing to set: want quota=value")
	}
	ops, err := parseQuotas(pairs)
	if err != nil {
		return err
	}
	return (&quotaFlags{clientFlags: f.clientFlags}).alter(cmd, []part{q.part}, ops, f.dryRun)
}

// unsetQuotas takes quotas of one away.
func (f *changeFlags) unsetQuotas(cmd *cobra.Command, q quotaTarget, keys []string) error {
	switch {
	case !q.named:
		return usage("which %s?", q.word)
	case f.all == (len(keys) > 0):
		return usage("want the quotas to unset, or --all")
	}
	return (&quotaFlags{clientFlags: f.clientFlags}).unset(cmd, []part{q.part}, keys, f.dryRun)
}
