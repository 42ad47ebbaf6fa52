package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/wire"
)

// Kafka's names for whom a quota is for, in the order in which they are shown.
const (
	entityUser   = "user"
	entityClient = "client-id"
	entityIP     = "ip"
)

// quotaKeys are the quotas of Kafka and what each limits.
func quotaKeys() []string {
	return []string{
		"producer_byte_rate\tbytes a second written, such as 1MiB",
		"consumer_byte_rate\tbytes a second read, such as 10MiB",
		"request_percentage\tshare of the time of one thread, such as 50%",
		"controller_mutation_rate\tpartitions created and deleted a second",
		"connection_creation_rate\tconnections accepted a second, of --ip only",
	}
}

// quotaFlags say whose quotas.
type quotaFlags struct {
	*clientFlags
	user, client, ip string
	defaults         []string
	given            *pflag.FlagSet
}

func newQuotaCmd() *cobra.Command {
	f := new(clientFlags)
	cmd := &cobra.Command{
		Use:   "quota",
		Short: "Show and set limits for users, clients and addresses",
		Long: `Show and set limits for users, clients and addresses. A client that is over its limit is made to wait; refused are changes of topics
above controller_mutation_rate, and connections above connection_creation_rate.

--user and --client together mean that client of that user. --default client is for clients that have no limit of their own, so
--user alice --default client is for each client of alice.`,
		Example: `  barnabas quota set --client loader producer_byte_rate=10MiB
  barnabas quota list`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.add(cmd)
	cmd.AddCommand(newQuotaSetCmd(f), newQuotaListCmd(f), newQuotaUnsetCmd(f))
	return cmd
}

func (f *quotaFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	f.given = flags
	flags.StringVar(&f.user, "user", "", "this user")
	flags.StringVar(&f.client, "client", "", "clients with this client.id")
	flags.StringVar(&f.ip, "ip", "", "connections from this address")
	flags.StringArrayVar(&f.defaults, "default", nil, "a `kind`, user, client or ip: all that have no limit of their own; may be repeated")
	complete(cmd, "default", words("user", "client", "ip"))
}

// part is one side of an entity; no name means the default.
type part struct {
	kind string
	name *string
}

// entity reads whom the flags mean, in Kafka's order.
func (f *quotaFlags) entity() ([]part, error) {
	for _, flag := range quotaWords() { // A variable of a script that is not set must not make the limit one of more clients.
		if f.given.Changed(flag) && f.given.Lookup(flag).Value.String() == "" {
			return nil, usage("--%s is empty; --default %s means all that have no limit of their own", flag, flag)
		}
	}
	names := map[string]*string{}
	for kind, name := range map[string]*string{entityUser: &f.user, entityClient: &f.client, entityIP: &f.ip} {
		if *name != "" {
			names[kind] = name
		}
	}
	for _, d := range f.defaults {
		kind, ok := map[string]string{"user": entityUser, "client": entityClient, "client-id": entityClient, "ip": entityIP}[d]
		if !ok {
			return nil, usage("--default %q: want user, client or ip", d)
		}
		if names[kind] != nil {
			return nil, usage("--default %s and --%s exclude each other", d, d)
		}
		names[kind] = nil
	}
	var out []part
	for _, kind := range []string{entityUser, entityClient, entityIP} {
		if name, ok := names[kind]; ok {
			out = append(out, part{kind, name})
		}
	}
	return out, nil
}

// oneEntity is entity for commands that change something.
func (f *quotaFlags) oneEntity() ([]part, error) {
	e, err := f.entity()
	if err == nil && len(e) == 0 {
		err = usage("whose quota? want --user, --client, --ip or --default")
	}
	return e, err
}

// shownEntity is an entity as people read it.
func shownEntity(e []part) string {
	var words []string
	for _, p := range e {
		name := "(default)"
		if p.name != nil {
			name = shown(*p.name)
		}
		words = append(words, p.kind+"="+name)
	}
	return strings.Join(words, " ")
}

func newQuotaSetCmd(client *clientFlags) *cobra.Command {
	f := &quotaFlags{clientFlags: client}
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "set QUOTA=VALUE…",
		Short: "Set limits",
		Long:  "Set limits. Rates of bytes take units: 1MiB, 500kB. The quotas are producer_byte_rate, consumer_byte_rate, request_percentage, controller_mutation_rate and, of --ip, connection_creation_rate.",
		Example: `  barnabas quota set --client loader producer_byte_rate=10MiB
  barnabas quota set --user alice --default client consumer_byte_rate=1MiB request_percentage=50%
  barnabas quota set --default ip connection_creation_rate=100`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			ops, err := parseQuotas(a)
			if err != nil {
				return err
			}
			e, err := f.oneEntity()
			if err != nil {
				return err
			}
			return f.alter(cmd, e, ops, dryRun)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return quotaPairs(), noFiles | cobra.ShellCompDirectiveNoSpace
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check only")
	return cmd
}

func parseQuotas(list []string) ([]wire.AlterClientQuotasRequestOpData, error) {
	pairs, err := parsePairs("quota", list)
	if err != nil {
		return nil, err
	}
	var ops []wire.AlterClientQuotasRequestOpData
	for _, p := range pairs {
		n, err := parseQuota(p.key, p.value)
		if err != nil {
			return nil, usage("%s=%s: %w", p.key, p.value, err)
		}
		ops = append(ops, wire.AlterClientQuotasRequestOpData{Key: p.key, Value: n})
	}
	return ops, nil
}

// parseQuota reads a value in the unit of its quota: what counts no bytes takes none of their units.
func parseQuota(key, text string) (float64, error) {
	if strings.HasSuffix(key, "byte_rate") {
		return parseAmount(strings.TrimSuffix(text, "/s"))
	}
	unit := "/s"
	if strings.HasSuffix(key, "percentage") {
		unit = "%"
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(text, unit)), 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return 0, errors.New("want a number")
	}
	return n, nil
}

func newQuotaUnsetCmd(client *clientFlags) *cobra.Command {
	f := &quotaFlags{clientFlags: client}
	var all, dryRun bool
	cmd := &cobra.Command{
		Use:   "unset QUOTA…",
		Short: "Take limits away",
		Example: `  barnabas quota unset --client loader producer_byte_rate
  barnabas quota unset --user alice --default client --all`,
		RunE: func(cmd *cobra.Command, keys []string) error {
			if all == (len(keys) > 0) {
				return usage("want the quotas to unset, or --all")
			}
			e, err := f.oneEntity()
			if err != nil {
				return err
			}
			return f.unset(cmd, e, keys, dryRun)
		},
		ValidArgsFunction: words(quotaKeys()...),
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "all limits of it")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check only")
	return cmd
}

// unset removes quotas of an entity; all of them if no key is given.
func (f *quotaFlags) unset(cmd *cobra.Command, e []part, keys []string, dryRun bool) error {
	set, err := f.quotasOf(cmd.Context(), e)
	switch {
	case err != nil:
		return err
	case len(keys) == 0:
		keys = slices.Sorted(maps.Keys(set))
	}
	if len(keys) == 0 {
		return f.print(cmd.OutOrStdout(), reportOps(e, nil, dryRun), func(out io.Writer) error { return nothingSet(out, shownEntity(e)) })
	}
	for _, k := range keys {
		_, isSet := set[k]
		switch {
		case !isSet && !isQuota(k): // Kafka takes it for done.
			return usage("there is no quota %q: want %s", k, strings.Join(quotaNames(), ", "))
		case !isSet:
			fmt.Fprintf(cmd.ErrOrStderr(), "note: %s was not set for %s\n", k, shownEntity(e))
		}
	}
	var ops []wire.AlterClientQuotasRequestOpData
	for _, k := range keys {
		ops = append(ops, wire.AlterClientQuotasRequestOpData{Key: k, Remove: true})
	}
	return f.alter(cmd, e, ops, dryRun)
}

// quotasOf are the quotas that are set for just that entity.
func (f *quotaFlags) quotasOf(ctx context.Context, e []part) (set map[string]float64, err error) {
	err = f.with(ctx, func(ctx context.Context, m *cluster.Map) error {
		list, err := describeQuotas(ctx, m, e, true)
		for _, q := range list {
			set = q.Quotas
		}
		return err
	})
	return set, err
}

// quotaPairs are quotaKeys with the sign that a value follows.
func quotaPairs() (pairs []string) {
	for _, k := range quotaKeys() {
		pairs = append(pairs, strings.Replace(k, "\t", "=\t", 1))
	}
	return pairs
}

func quotaNames() (names []string) {
	for _, k := range quotaKeys() {
		name, _, _ := strings.Cut(k, "\t")
		names = append(names, name)
	}
	return names
}

func isQuota(key string) bool { return slices.Contains(quotaNames(), key) }

// alter changes quotas and tells of it.
func (f *quotaFlags) alter(cmd *cobra.Command, e []part, ops []wire.AlterClientQuotasRequestOpData, dryRun bool) error {
	req := wire.NewAlterClientQuotasRequest()
	req.ValidateOnly = dryRun
	entry := wire.AlterClientQuotasRequestEntryData{Ops: ops}
	for _, p := range e {
		entry.Entity = append(entry.Entity, wire.AlterClientQuotasRequestEntityData{EntityType: p.kind, EntityName: p.name})
	}
	req.Entries = append(req.Entries, entry)
	err := f.with(cmd.Context(), func(ctx context.Context, m *cluster.Map) error {
		resp, err := ask[*wire.AlterClientQuotasResponse](ctx, m, req)
		if err != nil {
			return err
		}
		for _, x := range resp.Entries {
			if err := refusal(x.ErrorCode, x.ErrorMessage); err != nil {
				return fmt.Errorf("quota of %s: %w", shownEntity(e), err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return f.print(cmd.OutOrStdout(), reportOps(e, ops, dryRun), func(out io.Writer) error { return showOps(out, e, ops, dryRun) })
}

func reportOps(e []part, ops []wire.AlterClientQuotasRequestOpData, dryRun bool) map[string]any {
	set, unset := map[string]float64{}, []string{}
	for _, o := range ops {
		if o.Remove {
			unset = append(unset, o.Key)
		} else {
			set[o.Key] = o.Value
		}
	}
	return map[string]any{"entity": entityMap(e), "set": set, "unset": unset, "dryRun": dryRun}
}

func showOps(out io.Writer, e []part, ops []wire.AlterClientQuotasRequestOpData, dryRun bool) error {
	var did []string
	for _, o := range ops {
		if o.Remove {
			did = append(did, "-"+o.Key)
		} else {
			did = append(did, o.Key+"="+formatQuota(o.Key, o.Value))
		}
	}
	verb := "altered"
	if dryRun {
		verb = "would alter"
	}
	_, err := fmt.Fprintf(out, "%s %s: %s\n", verb, shownEntity(e), strings.Join(did, " "))
	return err
}

// formatQuota shows a quota in the unit of its name.
func formatQuota(key string, value float64) string {
	plain := strconv.FormatFloat(value, 'f', -1, 64)
	switch {
	case strings.HasSuffix(key, "byte_rate"):
		return fmt.Sprintf("%s (%s/s)", plain, formatBytes(value))
	case strings.HasSuffix(key, "percentage"):
		return plain + "%"
	}
	return plain + "/s"
}

// entityMap is an entity as JSON has it: null for the default.
func entityMap(e []part) map[string]*string {
	m := map[string]*string{}
	for _, p := range e {
		m[p.kind] = p.name
	}
	return m
}

func newQuotaListCmd(client *clientFlags) *cobra.Command {
	f := &quotaFlags{clientFlags: client}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List limits: all, or those that mention a user, client or address",
		Example: "  barnabas quota list\n  barnabas quota list --user alice --json",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := f.entity()
			if err != nil {
				return err
			}
			list := []quotaLine{}
			err = f.with(cmd.Context(), func(ctx context.Context, m *cluster.Map) (err error) {
				list, err = describeQuotas(ctx, m, e, false)
				return err
			})
			if err != nil {
				return err
			}
			return f.print(cmd.OutOrStdout(), list, func(out io.Writer) error { return showQuotas(out, list) })
		},
	}
	f.add(cmd)
	return cmd
}

// quotaLine is one entity with its quotas.
type quotaLine struct {
	parts  []part
	Entity map[string]*string `json:"entity"`
	Quotas map[string]float64 `json:"quotas"`
}

// What DescribeClientQuotas compares names with.
const (
	matchExact   = 0
	matchDefault = 1
)

// describeQuotas asks for the quotas of an entity, of all if it has no parts.
// Strict leaves out entities that have further parts.
func describeQuotas(ctx context.Context, m *cluster.Map, e []part, strict bool) ([]quotaLine, error) {
	req := wire.NewDescribeClientQuotasRequest()
	req.Strict = strict
	for _, p := range e {
		c := wire.DescribeClientQuotasRequestComponentData{EntityType: p.kind, MatchType: matchExact, Match: p.name}
		if p.name == nil {
			c.MatchType = matchDefault
		}
		req.Components = append(req.Components, c)
	}
	resp, err := ask[*wire.DescribeClientQuotasResponse](ctx, m, req)
	if err != nil {
		return nil, err
	}
	if err := refusal(resp.ErrorCode, resp.ErrorMessage); err != nil {
		return nil, fmt.Errorf("list quotas: %w", err)
	}
	list := []quotaLine{}
	for _, x := range resp.Entries {
		list = append(list, quotaLineOf(&x))
	}
	slices.SortFunc(list, func(a, b quotaLine) int { return strings.Compare(shownEntity(a.parts), shownEntity(b.parts)) })
	return list, nil
}

func quotaLineOf(x *wire.DescribeClientQuotasResponseEntryData) quotaLine {
	q := quotaLine{Quotas: map[string]float64{}}
	for _, kind := range []string{entityUser, entityClient, entityIP} {
		for _, y := range x.Entity {
			if y.EntityType == kind {
				q.parts = append(q.parts, part{kind, y.EntityName})
			}
		}
	}
	q.Entity = entityMap(q.parts)
	for _, v := range x.Values {
		q.Quotas[v.Key] = v.Value
	}
	return q
}

func showQuotas(out io.Writer, list []quotaLine) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ENTITY\tQUOTA\tVALUE")
	for _, q := range list {
		for _, key := range slices.Sorted(maps.Keys(q.Quotas)) {
			fmt.Fprintf(w, "%s\t%s\t%s\n", shownEntity(q.parts), key, formatQuota(key, q.Quotas[key]))
		}
	}
	return w.Flush()
}
