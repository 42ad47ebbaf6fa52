package coordinator

import (
	"runtime"
	"strings"
	"testing"
)

func TestCompilePattern(t *testing.T) {
	f := func(expression, name string, want bool) {
		t.Helper()
		p, err := CompilePattern(expression)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			return
		}
		if p.MatchString(name) != want {
			t.Errorf("%s, %s: %v", expression, name, !want)
		}
	}
	f("orders", "orders", true)
	f("orders", "orders-2", false) // All of the name.
	f("a|b", "ab", false)
	f("orders-[0-9]{1,3}", "orders-123", true)
	f("", "", true)
	f(`(?:x{30}){30}`, strings.Repeat("x", 900), true)
	f("(a*)*b", strings.Repeat("a", 10_000), false) // An engine that goes back would never end.
}

// Expressions that are refused cost next to nothing, however much they stand for.
func TestCompilePatternRefuses(t *testing.T) {
	f := func(expression, want string) {
		t.Helper()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := CompilePattern(expression)
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %s", expression, err, want)
		}
		if bytes := after.TotalAlloc - before.TotalAlloc; bytes > 32<<20 {
			t.Errorf("%.40s: %d bytes", expression, bytes)
		}
	}
	f("[", "missing closing ]")
	f("(", "missing closing )")
	f(strings.Repeat("a", maxPattern+1), "too long")
	f(strings.Repeat("a", MaxProgram+1), "too large")
	f("((a{100}){100}){100}", "invalid repeat count")
	f("(?:"+strings.Repeat("ab", 1500)+"){1000}", "too large")
	f("(?:"+strings.Repeat("a?", 1500)+"){999}", "too large")
	f(`(\pL{2}){500}`, "too large")
	f(strings.Repeat("(", 2000)+strings.Repeat(")", 2000), "nests")
	f(strings.Repeat(`\pL`, 1300), "too large")
}
