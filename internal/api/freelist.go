package api

import "sync"

// freeList keeps what answers need for the next ones of their connection. An
// answer is begun by the connection's reader and may be ended by its writer.
type freeList[T any] struct {
	mu   sync.Mutex
	free []*T
}

// maxFree is how many are kept: idempotent producers have five in flight.
const maxFree = 8

// get returns a used T, or nil.
func (l *freeList[T]) get() *T {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.free)
	if n == 0 {
		return nil
	}
	t := l.free[n-1]
	l.free = l.free[:n-1]
	return t
}

func (l *freeList[T]) put(t *T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.free) < maxFree {
		l.free = append(l.free, t)
	}
}
