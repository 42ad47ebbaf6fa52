package api

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/barnabas-log/barnabas/wire"
)

// Every exported error of the packages below that a request may meet has its
// code in the one map. Those that cannot reach a request are named here, with
// the reason.
func TestErrorMapIsComplete(t *testing.T) {
	elsewhere := map[string]string{
		"producers.ErrSnapshot": "met when a partition is opened",
		"commitlog.ErrNotNext":  "followers append with offsets, clients without",
		"commitlog.ErrNoRoom":   "met by the cleaner",
		"commitlog.ErrNoKey":    "met by the cleaner",
		"commitlog.ErrChanged":  "met by the cleaner",
		"replicas.ErrNoLog":     "met by commands on a broker that is stopped",
	}
	source, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, pkg := range []string{"partition", "producers", "controller", "commitlog", "replicas", "quorum"} {
		for _, name := range sentinelsOf(t, pkg) {
			n++
			name = pkg + "." + name
			mapped := strings.Contains(string(source), "{"+name+", wire.")
			if mapped == (elsewhere[name] != "") {
				t.Errorf("%s: mapped is %v, elsewhere %q", name, mapped, elsewhere[name])
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d errors found", n)
	}
}

// sentinelsOf lists the exported variables that are errors.New.
func sentinelsOf(t *testing.T, pkg string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", pkg, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if _, body := n.(*ast.BlockStmt); body {
				return false
			}
			v, ok := n.(*ast.ValueSpec)
			if ok && strings.HasPrefix(v.Names[0].Name, "Err") && len(v.Values) == 1 {
				names = append(names, v.Names[0].Name)
			}
			return true
		})
	}
	return names
}

// Messages that repeat what a stranger wrote fit the answer, however long it was.
func TestLongNames(t *testing.T) {
	n := newNode(t)
	n.topic("t", 1)
	c := n.dial()
	long := strings.Repeat("ä", 1<<14-1) + "n"

	create := wire.NewCreateTopicsRequest()
	create.TimeoutMs = 10_000
	wire.Extend(&create.Topics).Name = long
	created := ask[*wire.CreateTopicsResponse](c, create, 2).Topics[0]
	if created.ErrorCode != int16(wire.InvalidTopicException) || created.ErrorMessage == nil {
		t.Fatal("a topic with a long name was made")
	}
	if text := *created.ErrorMessage; len(text) > maxMessage || len(text) < maxMessage-3 || !utf8.ValidString(text) {
		t.Errorf("%d bytes, ending in %q", len(text), text[len(text)-4:])
	}

	for _, key := range []string{long, "retention.ms"} {
		altered := ask[*wire.IncrementalAlterConfigsResponse](c, incremental(key, long, "t"), 1).Responses[0]
		if altered.ErrorCode != int16(wire.InvalidConfig) || altered.ErrorMessage == nil {
			t.Errorf("%.20s: %v", key, altered.ErrorCode)
		}
	}

	update := wire.NewUpdateFeaturesRequest()
	f := wire.Extend(&update.FeatureUpdates)
	f.Feature, f.MaxVersionLevel = long, 1
	if updated := ask[*wire.UpdateFeaturesResponse](c, update, 1); updated.ErrorCode != int16(wire.InvalidUpdateVersion) {
		t.Error(updated.ErrorCode)
	}

	describe := wire.NewDescribeUserScramCredentialsRequest()
	wire.Extend(&describe.Users).Name = long
	if described := ask[*wire.DescribeUserScramCredentialsResponse](c, describe, 0); described.Results[0].ErrorMessage == nil {
		t.Error("no message")
	}

	quotas := wire.NewAlterClientQuotasRequest()
	entry := wire.Extend(&quotas.Entries)
	side := wire.Extend(&entry.Entity)
	side.EntityType, side.EntityName = "user", &long
	for range 2 {
		o := wire.Extend(&entry.Ops)
		o.Key, o.Value = "producer_byte_rate", 1
	}
	if refused := ask[*wire.AlterClientQuotasResponse](c, quotas, 0).Entries[0]; refused.ErrorCode != int16(wire.InvalidRequest) {
		t.Error(refused.ErrorCode)
	}
}
