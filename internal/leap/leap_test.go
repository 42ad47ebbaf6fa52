package leap

import (
	"testing"
	"time"
)

// A leap is doubted for an hour; time that passes is not taken for one, and a
// leap is not taken for time that passed.
func TestClock(t *testing.T) {
	var c Clock
	right := time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC)
	ran := time.Duration(0)
	f := func(now time.Time, passed, leapt, doubted time.Duration) {
		t.Helper()
		ran += passed
		if got := c.Look(now); got != leapt {
			t.Errorf("a leap of %v, want %v", got, leapt)
		}
		if got := now.Sub(c.Old(now)); got != doubted {
			t.Errorf("%v are doubted, want %v", got, doubted)
		}
		if c.Ran() != ran {
			t.Errorf("%v have passed, want %v", c.Ran(), ran)
		}
	}
	const year = 365 * 24 * time.Hour
	f(right, 0, 0, 0)
	f(right.Add(time.Minute), time.Minute, 0, 0)
	f(right.Add(time.Minute+year), 0, year, year)
	f(right.Add(2*time.Minute+year), time.Minute, 0, year)
	f(right.Add(2*time.Minute+3*year), 0, 2*year, 3*year)
	f(right.Add(2*time.Minute), 0, 0, 0) // Set right.
	f(right.Add(2*time.Minute-year), 0, 0, 0)
	f(right.Add(2*time.Minute), 0, year, year)
	for range 6 {
		right = right.Add(9 * time.Minute)
		f(right.Add(2*time.Minute), 9*time.Minute, 0, year)
	}
	f(right.Add(9*time.Minute), 7*time.Minute, 0, 0) // It is believed.
	f(right.Add(8*time.Minute), 0, 0, 0)             // A little back: no time that passed, and no leap.
}

// Leaps without end are no overflow.
func TestFarLeaps(t *testing.T) {
	var c Clock
	now := time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC)
	for range 4 {
		c.Look(now)
		now = now.AddDate(280, 0, 0)
	}
	if old := c.Old(now); old.After(now) {
		t.Errorf("old is %v, of %v", old, now)
	}
}

// The clock that only runs says what passed: an hour without a look is none that
// somebody has set the clock by.
func TestClockThatOnlyRuns(t *testing.T) {
	var c Clock
	now := time.Now()
	c.Look(now)
	if leapt := c.Look(now.Add(3 * time.Hour)); leapt != 0 || c.Ran() != 3*time.Hour {
		t.Errorf("a leap of %v, %v have passed", leapt, c.Ran())
	}
}
