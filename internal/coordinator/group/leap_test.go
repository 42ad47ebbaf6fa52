package group

import (
	"testing"
	"time"
)

// A clock that is set ahead by years costs no group its offsets if it is set
// right within the hour; one that stays there is believed after that.
func TestOffsetsOutliveLeaps(t *testing.T) {
	s := quickStage(t, Options{})
	s.ask(9, commitOf("g", 3, ""))
	f := func(where string, kept bool) {
		t.Helper()
		if got := s.groups["g"] != nil; got != kept {
			t.Errorf("%s: the group is there: %v", where, got)
		}
	}
	const years = 10 * 365 * 24 * time.Hour
	s.wait(time.Minute)
	s.now = s.now.Add(years)
	s.wait(50 * time.Minute)
	f("a wrong clock", true)
	s.ask(9, commitOf("meanwhile", 1, ""))
	s.now = s.now.Add(-years)
	s.wait(48 * time.Hour)
	f("a clock set right", true)
	s.wait(time.Minute)
	s.now = s.now.Add(years)
	s.wait(50 * time.Minute)
	f("wrong again", true)
	s.wait(30 * time.Minute)
	f("a clock that is believed", false)
	if s.groups["meanwhile"] == nil {
		t.Error("what was committed by the new clock is gone")
	}
}

// A clock that is set back keeps no group from being assigned anew.
func TestAssignmentsOutliveLeaps(t *testing.T) {
	s := quickStage(t, Options{})
	join := func(id string) {
		q := beatOf("g", id, joinEpoch)
		q.SubscribedTopicNames = []string{"t"}
		s.ask(1, q)
	}
	join("a")
	s.wait(2 * time.Second)
	s.now = s.now.Add(-10_000 * time.Hour)
	join("b")
	if c := s.groups["g"].consumer; c.assignmentEpoch != c.epoch || len(c.targets["b"]) == 0 {
		t.Errorf("assigned in epoch %d of %d: %v", c.assignmentEpoch, c.epoch, c.targets)
	}
}

// Sessions are about time that passed.
func TestSessionsOutliveLeaps(t *testing.T) {
	s := quickStage(t, Options{})
	q := beatOf("g", "m", joinEpoch)
	q.SubscribedTopicNames = []string{"t"}
	s.ask(1, q)
	for _, by := range []time.Duration{10_000 * time.Hour, -20_000 * time.Hour} {
		s.wait(40 * time.Second)
		s.now = s.now.Add(by)
		s.wait(3 * time.Second)
		if s.groups["g"].consumer.members["m"] == nil {
			t.Fatalf("a clock set by %v ends the session", by)
		}
		s.ask(1, beatOf("g", "m", s.groups["g"].consumer.members["m"].epoch))
	}
	s.wait(50 * time.Second)
	if n := len(s.groups["g"].consumer.members); n > 0 {
		t.Errorf("%d members are silent, and in the group", n)
	}
}
