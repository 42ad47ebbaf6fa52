// Package invariant states what must be true. A broken invariant panics: a dead
// replica is better than a lying one. The package knows nothing of anybody's
// invariants.
package invariant

import (
	"fmt"
	"testing"
)

// Must panics with the message if ok is false. Arguments are formatted only
// then; on hot paths avoid arguments that allocate.
func Must(ok bool, format string, args ...any) {
	if !ok {
		panic("invariant broken: " + fmt.Sprintf(format, args...))
	}
}

// Expensive reports whether checks should run that cost more than the work they
// guard: in tests, not in a broker.
func Expensive() bool { return testing.Testing() }
