package quota

import (
	"container/list"
	"strings"
)

// maxAccounts is how many clients are remembered: the one that was idle
// longest is forgotten first. Somebody who comes under ever new names gets a
// fresh account each time whether or not the old ones are kept; what has to be
// bounded is the memory, here some 5 MB a kind.
const maxAccounts = 10_000

// idleMillis is how long an account is kept unused, as long as Kafka keeps a
// sensor.
const idleMillis = 3_600_000

// accounts are the clients that were seen, the last used first.
type accounts[T any] struct {
	byName map[account]*list.Element
	order  list.List
}

type entry[T any] struct {
	account account
	last    int64
	state   T
}

// get returns the state of an account, made when it is new.
func (a *accounts[T]) get(who account, now int64) *T {
	a.expire(now)
	if e, ok := a.byName[who]; ok {
		x := e.Value.(*entry[T])
		x.last = now
		a.order.MoveToFront(e)
		return &x.state
	}
	if a.order.Len() >= maxAccounts {
		a.remove(a.order.Back())
	}
	if a.byName == nil {
		a.byName = map[account]*list.Element{}
	}
	who = account{strings.Clone(who.user), strings.Clone(who.client)}
	x := &entry[T]{account: who, last: now}
	a.byName[who] = a.order.PushFront(x)
	return &x.state
}

// find returns the state of an account that was seen, or nil.
func (a *accounts[T]) find(who account) *T {
	if e, ok := a.byName[who]; ok {
		return &e.Value.(*entry[T]).state
	}
	return nil
}

// expire forgets who has been idle.
func (a *accounts[T]) expire(now int64) {
	for e := a.order.Back(); e != nil && now-e.Value.(*entry[T]).last > idleMillis; e = a.order.Back() {
		a.remove(e)
	}
}

func (a *accounts[T]) remove(e *list.Element) {
	delete(a.byName, e.Value.(*entry[T]).account)
	a.order.Remove(e)
}

func (a *accounts[T]) len() int { return a.order.Len() }
