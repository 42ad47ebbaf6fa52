package listener

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A muted connection is not read until its time is over; what it is owed goes
// out at once (KIP-219).
func TestMute(t *testing.T) {
	inWorld(t, Options{Idle: time.Hour}, func(t *testing.T, w *world) {
		c := w.dial()
		c.send(slices.Concat(request(opMute, 1), request(opEcho, 2)))
		if got := c.got(); !slices.Equal(got, []int{1}) {
			t.Errorf("answers %v: not muted, or not answered", got)
		}
		time.Sleep(muteFor - time.Millisecond)
		if got := c.got(); len(got) != 1 || w.server.Stats().Muted.Load() != 1 {
			t.Errorf("answers %v before the time was over", got)
		}
		time.Sleep(time.Millisecond)
		if got := c.got(); !slices.Equal(got, []int{1, 2}) {
			t.Errorf("answers %v", got)
		}
		if s := w.server.Stats(); s.Mutes.Load() != 1 || s.Muted.Load() != 0 {
			t.Errorf("%d mutes, %d muted", s.Mutes.Load(), s.Muted.Load())
		}
	})
}

// Whoever is muted while its connection waits for the next request is muted
// all the same: the answer to a long poll comes from the writer's side.
func TestMuteWhileReading(t *testing.T) {
	inWorld(t, Options{Idle: time.Hour}, func(t *testing.T, w *world) {
		c := w.dial()
		c.send(request(opPark, 1))
		synctest.Wait()
		p := w.take(0)
		p.a.Conn().Mute(muteFor)
		p.release()
		c.send(request(opEcho, 2)[:3])
		if got := c.got(); !slices.Equal(got, []int{1}) {
			t.Errorf("answers %v", got)
		}
		go c.send(request(opEcho, 2)[3:])
		time.Sleep(muteFor - time.Millisecond)
		if got := c.got(); len(got) != 1 {
			t.Errorf("answers %v before the time was over", got)
		}
		time.Sleep(time.Millisecond)
		if got := c.got(); !slices.Equal(got, []int{1, 2}) {
			t.Errorf("answers %v", got)
		}
	})
}

// The longest of several mutes counts, and a muted connection is muted anew.
func TestMutesAddUp(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w *world) {
		c := w.dial()
		c.send(request(opPark, 1))
		synctest.Wait()
		p := w.take(0)
		p.a.Conn().Mute(10 * time.Second)
		p.a.Conn().Mute(time.Second)
		c.send(request(opEcho, 2)[:4])
		time.Sleep(5 * time.Second)
		p.a.Conn().Mute(10 * time.Second)
		p.release()
		go c.send(request(opEcho, 2)[4:])
		time.Sleep(9 * time.Second)
		if got := c.got(); !slices.Equal(got, []int{1}) {
			t.Errorf("answers %v", got)
		}
		time.Sleep(time.Second)
		if got := c.got(); !slices.Equal(got, []int{1, 2}) {
			t.Errorf("answers %v", got)
		}
	})
}

// Being muted is being idle: nobody holds a connection for as long as a tiny
// quota says.
func TestMutedConnectionIsIdle(t *testing.T) {
	inWorld(t, Options{Idle: muteFor / 2}, func(t *testing.T, w *world) {
		c := w.dial()
		c.send(request(opMute, 1))
		time.Sleep(muteFor/2 - time.Millisecond)
		if c.closed() {
			t.Error("closed early")
		}
		time.Sleep(2 * time.Millisecond)
		if !c.closed() || len(c.got()) != 1 {
			t.Error("not closed")
		}
	})
}

// A server stops while connections are muted, and sends what it owes.
func TestStopWhileMuted(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w *world) {
		c := w.dial()
		c.send(slices.Concat(request(opPark, 1), request(opMute, 2)))
		synctest.Wait()
		p := w.take(0)
		began := time.Now()
		go func() {
			time.Sleep(time.Second)
			p.release()
		}()
		w.server.Stop(t.Context())
		if got := c.got(); !slices.Equal(got, []int{1, 2}) || time.Since(began) != time.Second {
			t.Errorf("answers %v after %v", got, time.Since(began))
		}
	})
}
