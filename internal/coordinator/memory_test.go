package coordinator

import "testing"

// Shards share one limit, a fifth of which is for what is known; what one holds
// is given back when it ends.
func TestMemory(t *testing.T) {
	m := NewMemory(1000)
	a, b := m.Share(), m.Share()
	a.Add(500)
	b.Add(200)
	f := func(s *Share, bytes int, known, want bool) {
		t.Helper()
		if got := s.Fits(bytes, known); got != want {
			t.Errorf("%d more, known %v: %v", bytes, known, got)
		}
	}
	f(a, 100, false, true)
	f(a, 101, false, false)
	f(b, 101, true, true)
	f(b, 300, true, true)
	f(b, 301, true, false)
	f(b, -1, false, true)
	b.Add(1000) // A log that is loaded.
	f(a, 0, false, true)
	f(a, 1, true, false)
	if m.Held() != 1700 || m.Refused() != 3 || m.Limit() != 1000 {
		t.Errorf("%d held, %d refused", m.Held(), m.Refused())
	}
	b.Release()
	b.Release()
	f(b, 300, false, true)
	if m.Held() != 500 {
		t.Errorf("%d held", m.Held())
	}
	var none *Share
	none.Add(5)
	none.Release()
	f(none, 1<<40, false, true)
	f(NewMemory(0).Share(), 1<<40, false, true)
}
