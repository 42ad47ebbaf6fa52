package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/internal/config"
)

func newConfigCmd() *cobra.Command {
	f := new(clientFlags)
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show and change settings of topics, brokers, loggers, clients and groups",
		Long: `Show and change settings while the brokers run.

TYPE is topic, broker, broker-logger, client-metrics or group. A broker's NAME is its number; --default, in place of it, means the defaults of all brokers.
TYPE client, user and ip have quotas: a NAME is a client.id, a user or an address, and --default all that have none of their own. See also 'quota'.`,
		Example: `  barnabas config describe topic letters
  barnabas config set broker --default log.retention.ms=604800000
  barnabas config unset client loader --all`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.add(cmd)
	cmd.AddCommand(newConfigDescribeCmd(f), newConfigSetCmd(f), newConfigUnsetCmd(f))
	return cmd
}

// configFlags are those of one config command.
type configFlags struct {
	*clientFlags
	defaults bool
}

func (f *configFlags) addDefault(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.defaults, "default", false, "in place of a NAME: the defaults of all brokers; the quotas of each client, user or ip that has none of its own")
}

// target reads TYPE and NAME, and returns what comes behind them. The name is
// empty if it is left out.
func (f *configFlags) target(a []string) (r resource, named bool, rest []string, err error) {
	if r.configKind, err = parseKind(a[0]); err != nil {
		return r, false, nil, err
	}
	switch a = a[1:]; {
	case f.defaults && r.configKind != kindBroker:
		return r, false, nil, usage("--default is for brokers: a %s has none of its own", r.word)
	case f.defaults:
		return r, true, a, nil
	case len(a) == 0:
		return r, false, nil, nil
	case a[0] == "" && r.configKind == kindBroker: // A variable of a script that is not set must not change all brokers.
		return r, false, nil, usage("the broker's NAME is empty; --default means the defaults of all brokers")
	case a[0] == "":
		return r, false, nil, usage("the NAME of the %s is empty", r.word)
	}
	r.name = a[0]
	return r, true, a[1:], nil
}

type describeFlags struct {
	configFlags
	all, synonyms, docs bool
}

func newConfigDescribeCmd(client *clientFlags) *cobra.Command {
	f := &describeFlags{configFlags: configFlags{clientFlags: client}}
	cmd := &cobra.Command{
		Use:   "describe TYPE [NAME [KEY…]]",
		Short: "Show settings and where they come from",
		Long: `Show settings and where they come from: those that differ from the defaults, those of the named keys, or --all. Without a NAME, of everything of that TYPE.

The source is topic, broker, broker-logger, client-metrics or group where it was set for that; broker-default where it was set for all brokers;
static where it is from the broker's file or command line; else default.`,
		Example: `  barnabas config describe topic letters
  barnabas config describe topic letters retention.ms --synonyms --docs
  barnabas config describe broker 1 --all
  barnabas config describe broker --default
  barnabas config describe broker-logger 1
  barnabas config describe client-metrics --json
  barnabas config describe clients`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { return f.run(cmd, a) },
	}
	f.addDefault(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&f.all, "all", false, "defaults, too")
	flags.BoolVar(&f.synonyms, "synonyms", false, "all places that give a setting its value; the first counts")
	flags.BoolVar(&f.docs, "docs", false, "what each setting does")
	cmd.ValidArgsFunction = f.completeKeys
	return cmd
}

// described are the settings of one thing.
type described struct {
	resource
	Type    string    `json:"type"`
	Name    string    `json:"name"`
	Configs []setting `json:"configs"`
}

func (f *describeFlags) run(cmd *cobra.Command, a []string) error {
	if q, keys, ok := f.quotaTarget(a); ok {
		return f.describeQuotas(cmd, q, keys)
	}
	r, named, keys, err := f.target(a)
	if err != nil {
		return err
	}
	list := []described{}
	err = f.with(cmd.Context(), func(ctx context.Context, m *cluster.Map) error {
		targets := []resource{r}
		if !named {
			if targets, err = resourcesOf(ctx, m, r.configKind); err != nil {
				return err
			}
		}
		var errs []error
		for _, r := range targets {
			d, err := f.describe(ctx, m, r, keys)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			list = append(list, d)
		}
		return errors.Join(errs...)
	})
	if err != nil && len(list) == 0 {
		return err
	}
	return errors.Join(f.print(cmd.OutOrStdout(), list, func(out io.Writer) error { return f.show(out, list, named) }), err)
}

func (f *describeFlags) describe(ctx context.Context, m *cluster.Map, r resource, keys []string) (described, error) {
	all, err := describeConfig(ctx, m, r, describeOptions{keys: keys, synonyms: f.synonyms, docs: f.docs})
	if err != nil {
		return described{}, err
	}
	d := described{resource: r, Type: r.word, Name: r.name, Configs: []setting{}}
	known := map[string]bool{}
	for _, s := range all {
		known[s.Key] = true
		if f.all || len(keys) > 0 || s.Source != sourceDefault {
			d.Configs = append(d.Configs, s)
		}
	}
	for _, k := range keys {
		if r.lacks(k, known) {
			return described{}, errNoSetting(r, k)
		}
	}
	return d, nil
}

func (f *describeFlags) show(out io.Writer, list []described, named bool) error {
	for i, d := range list {
		if !named {
			if i > 0 {
				fmt.Fprintln(out)
			}
			fmt.Fprintln(out, d.resource)
		}
		if err := f.showOne(out, d); err != nil {
			return err
		}
	}
	return nil
}

func (f *describeFlags) showOne(out io.Writer, d described) error {
	if len(d.Configs) == 0 {
		_, err := fmt.Fprintln(out, "no settings but defaults")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tVALUE\tSOURCE\tTYPE")
	for _, s := range d.Configs {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", shown(s.Key), shownValue(s.Value, s.Sensitive), s.Source, s.kind())
		for _, y := range s.Synonyms {
			fmt.Fprintf(w, "  ← %s\t%s\t%s\t\n", y.Key, shownValue(y.Value, s.Sensitive), y.Source)
		}
	}
	if err := w.Flush(); err != nil || !f.docs {
		return err
	}
	for _, s := range d.Configs {
		fmt.Fprintf(out, "\n%s: %s\n", s.Key, s.Doc)
	}
	return nil
}

func (s *setting) kind() string {
	if s.ReadOnly {
		return s.Type + ", read-only"
	}
	return s.Type
}

func shownValue(v *string, sensitive bool) string {
	switch {
	case sensitive:
		return "(hidden)"
	case v == nil:
		return "-"
	case *v == "":
		return `""`
	}
	return shown(*v)
}

// changeFlags are those of commands that change settings.
type changeFlags struct {
	configFlags
	appended, subtracted []string
	all, dryRun          bool
}

func newConfigSetCmd(client *clientFlags) *cobra.Command {
	f := &changeFlags{configFlags: configFlags{clientFlags: client}}
	cmd := &cobra.Command{
		Use:   "set TYPE NAME KEY=VALUE…",
		Short: "Change settings",
		Long:  "Change settings, all of them or, if one is refused, none.",
		Example: `  barnabas config set topic letters retention.ms=86400000 cleanup.policy=delete
  barnabas config set topic letters --append cleanup.policy=compact
  barnabas config set broker 1 log.cleaner.threads=2
  barnabas config set broker --default log.retention.ms=604800000
  barnabas config set broker-logger 1 replicas=DEBUG
  barnabas config set client loader producer_byte_rate=10MiB
  barnabas config set client-metrics slow-ones metrics=org.apache.kafka.producer. interval.ms=60000 match=client_software_name=apache-kafka-java`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { return f.set(cmd, a) },
	}
	f.addDefault(cmd)
	flags := cmd.Flags()
	flags.StringArrayVar(&f.appended, "append", nil, "add to a list, `key=value`; may be repeated")
	flags.StringArrayVar(&f.subtracted, "subtract", nil, "take out of a list, `key=value`; may be repeated")
	flags.BoolVar(&f.dryRun, "dry-run", false, "check only")
	cmd.ValidArgsFunction = f.completePairs
	return cmd
}

func (f *changeFlags) set(cmd *cobra.Command, a []string) error {
	if q, pairs, ok := f.quotaTarget(a); ok {
		return f.setQuotas(cmd, q, pairs)
	}
	r, named, rest, err := f.target(a)
	if err != nil {
		return err
	}
	if !named {
		return usage("which %s?", r.word)
	}
	change, err := f.alteration(rest)
	if err != nil {
		return err
	}
	if change.empty() {
		return usage("nothing to set: want key=value")
	}
	f.noteUnknown(cmd, r, change)
	return f.alter(cmd, r, change)
}

// noteUnknown tells of keys that a broker takes, for some plugin of Kafka's may
// know them, and that are typos as often as not.
func (f *changeFlags) noteUnknown(cmd *cobra.Command, r resource, a *alteration) {
	if r.configKind != kindBroker {
		return
	}
	for _, p := range a.set {
		if why := config.UnknownKey(p.key); why != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "note: %s\n", why)
		}
	}
}

func (f *changeFlags) alteration(pairs []string) (*alteration, error) {
	a := &alteration{dryRun: f.dryRun}
	var err1, err2, err3 error
	a.set, err1 = parsePairs("setting", pairs)
	a.add, err2 = parsePairs("--append", f.appended)
	a.subtract, err3 = parsePairs("--subtract", f.subtracted)
	return a, errors.Join(err1, err2, err3)
}

// alter makes a change and tells of it.
func (f *clientFlags) alter(cmd *cobra.Command, r resource, a *alteration) error {
	err := f.with(cmd.Context(), func(ctx context.Context, m *cluster.Map) error {
		if err := checkUnset(ctx, m, r, a.unset, cmd.ErrOrStderr()); err != nil {
			return err
		}
		return alterConfig(ctx, m, r, a)
	})
	if err != nil {
		return err
	}
	return f.print(cmd.OutOrStdout(), a.report(r), func(out io.Writer) error { return a.show(out, r) })
}

func (a *alteration) report(r resource) map[string]any {
	report := map[string]any{"type": r.word, "name": r.name, "dryRun": a.dryRun, "unset": append([]string{}, a.unset...)}
	for word, list := range map[string][]keyValue{"set": a.set, "append": a.add, "subtract": a.subtract} {
		values := map[string]string{}
		for _, p := range list {
			values[p.key] = p.value
		}
		report[word] = values
	}
	return report
}

func (a *alteration) show(out io.Writer, r resource) error {
	did := "altered"
	if a.dryRun {
		did = "would alter"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s:", did, r)
	for sign, list := range [][]keyValue{a.set, a.add, a.subtract} {
		for _, p := range list {
			fmt.Fprintf(&b, " %s%s%s", p.key, []string{"=", "+=", "-="}[sign], p.value)
		}
	}
	for _, key := range a.unset {
		fmt.Fprintf(&b, " -%s", key)
	}
	_, err := fmt.Fprintln(out, b.String())
	return err
}

func newConfigUnsetCmd(client *clientFlags) *cobra.Command {
	f := &changeFlags{configFlags: configFlags{clientFlags: client}}
	cmd := &cobra.Command{
		Use:   "unset TYPE NAME KEY…",
		Short: "Go back from settings to the defaults",
		Example: `  barnabas config unset topic letters retention.ms
  barnabas config unset broker --default log.retention.ms
  barnabas config unset client-metrics slow-ones --all`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { return f.unset(cmd, a) },
	}
	f.addDefault(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&f.all, "all", false, "all that was set for it")
	flags.BoolVar(&f.dryRun, "dry-run", false, "check only")
	cmd.ValidArgsFunction = f.completeKeys
	return cmd
}

func (f *changeFlags) unset(cmd *cobra.Command, a []string) error {
	if q, keys, ok := f.quotaTarget(a); ok {
		return f.unsetQuotas(cmd, q, keys)
	}
	r, named, keys, err := f.target(a)
	switch {
	case err != nil:
		return err
	case !named:
		return usage("which %s?", r.word)
	case f.all == (len(keys) > 0):
		return usage("want the keys to unset, or --all")
	}
	if f.all {
		if keys, err = f.ownKeys(cmd.Context(), r); err != nil {
			return err
		}
		keys = withoutMinISR(r, keys, cmd.ErrOrStderr())
	}
	change := &alteration{unset: keys, dryRun: f.dryRun}
	if change.empty() {
		return f.print(cmd.OutOrStdout(), change.report(r), func(out io.Writer) error { return nothingSet(out, r.String()) })
	}
	return f.alter(cmd, r, change)
}

// withoutMinISR leaves out what cannot be unset: a cluster with eligible leader replicas (KIP-966) always has its
// min.insync.replicas, and would refuse all of the change.
func withoutMinISR(r resource, keys []string, notes io.Writer) []string {
	const key = "min.insync.replicas"
	if r != (resource{kindBroker, ""}) || !slices.Contains(keys, key) {
		return keys
	}
	fmt.Fprintf(notes, "note: %s stays, for a cluster always has one; set it to 1 to go back to the default\n", key)
	return slices.DeleteFunc(keys, func(k string) bool { return k == key })
}

// nothingSet answers who wants to unset all where there is nothing.
func nothingSet(out io.Writer, of string) error {
	_, err := fmt.Fprintf(out, "nothing is set for %s\n", of)
	return err
}

// ownKeys are the settings that were made for r itself.
func (f *changeFlags) ownKeys(ctx context.Context, r resource) (keys []string, err error) {
	err = f.with(ctx, func(ctx context.Context, m *cluster.Map) error {
		list, err := describeConfig(ctx, m, r, describeOptions{})
		for _, s := range list {
			if r.own(s) {
				keys = append(keys, s.Key)
			}
		}
		return err
	})
	return keys, err
}
