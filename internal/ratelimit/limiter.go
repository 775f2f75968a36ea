// Package ratelimit decides how often a key may do something in a window of time:
// how many sessions an address gets in a minute.
//
// Four things are kept apart: the decision ([Decision], pure arithmetic), the
// count ([Store], in memory or shared by all instances), the gate in front of the
// count ([Limiter]), which saves it work, and the circuit breaker around it. None
// of them knows what is being limited. A [Day] is made of them: it limits what one
// address and all together may do in a day.
package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// StoreTimeout is the longest that a request waits for the store.
const StoreTimeout = 4 * time.Second

// ErrUnavailable is returned while the store is down and nothing may be granted
// without it.
var ErrUnavailable = errors.New("rate limit store is unavailable")

// Options configure a [Limiter]. All are required but Ceiling and Store.
type Options struct {
	// Name tells the limiter's buckets, headers and log records from those of
	// others. It must not contain a NUL, nor change: its buckets would be new ones.
	Name string
	// Limit is the grants of one bucket.
	Limit int
	// Window is how long a bucket lasts, in whole seconds.
	Window time.Duration
	// Ceiling is the grants that this instance gives in a window, to all keys
	// together and a quarter of them to one network; 0 for no ceiling.
	Ceiling int
	// Store counts for all instances. Without one, this instance counts alone.
	Store Store
	// Deny refuses all requests while Store is down, instead of counting on in
	// memory.
	Deny bool
	// StoreTimeout bounds each call of Store, even if the caller leaves.
	StoreTimeout time.Duration
	// Log is told when the store fails and when it answers again, never a key.
	Log *slog.Logger
	// Now is the clock.
	Now func() time.Time
}

// Limiter is the gate in front of a [Store]. Requests for one bucket that arrive
// while the store is being asked about it are combined into the next question;
// requests for other buckets do not wait. What the store has answered is
// remembered: a bucket that is known to be full is refused without asking.
//
// The memory also counts everything that this instance has granted from a bucket.
// So it can take over in the middle of a window when the store fails, and hand
// back, without ever granting more than the limit.
type Limiter struct {
	o       Options
	memory  *memory
	ceiling ceiling
	breaker *breaker // nil: the memory is the store

	mu     sync.Mutex
	queues map[Bucket]*queue

	full struct {
		sync.Mutex

		logged Window
	}
}

// queue holds the requests for one bucket that the next question to the store
// will be about. It exists while there is one.
type queue struct{ waiting []*waiter }

type waiter struct{ verdict chan verdict }

// newWaiter returns a waiter whose verdict is buffered: it may have left.
func newWaiter() *waiter { return &waiter{verdict: make(chan verdict, 1)} }

type verdict struct {
	decision Decision
	err      error
}

// New returns a limiter that has granted nothing yet.
func New(o Options) *Limiter {
	var k *breaker
	if o.Store != nil {
		k = &breaker{name: o.Name, store: o.Store, timeout: o.StoreTimeout, log: o.Log, now: o.Now}
	}
	return newLimiter(o, k)
}

// newLimiter returns a limiter whose store is behind a breaker, which limiters of one
// store can share, or nil.
func newLimiter(o Options, k *breaker) *Limiter {
	return &Limiter{
		o:       o,
		memory:  newMemory(o.Now, o.Window),
		ceiling: ceiling{max: o.Ceiling, clock: newClock(o.Now, o.Window), networks: map[Key]share{}},
		breaker: k,
		queues:  map[Bucket]*queue{},
	}
}

// StoreFailed tells the limiter at the start that the store is down, so that the
// first visitors do not have to find out.
func (l *Limiter) StoreFailed(err error) { l.breaker.fail(era{}, err) }

// Take asks for one grant for the key. It fails with [ErrUnavailable], [ErrFull],
// an [*OverCapacityError], or context.Canceled. If ctx ends first, the request
// leaves the queue without disturbing others; a deadline that passes there is
// [ErrUnavailable].
func (l *Limiter) Take(ctx context.Context, key Key) (Decision, error) {
	b := l.bucket(key)
	if l.usedUp(b) {
		return l.refuse(b, ByAddress), nil
	}
	if l.breaker == nil {
		w := newWaiter()
		l.ask(b, []*waiter{w}) // No queue: the memory answers at once.
		v := <-w.verdict
		return v.decision, v.err
	}
	w := l.join(b)
	select {
	case v := <-w.verdict:
		return v.decision, v.err
	case <-ctx.Done():
		l.leave(b, w)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return Decision{}, fmt.Errorf("%w: no answer in the request's time", ErrUnavailable)
		}
		return Decision{}, fmt.Errorf("waiting for the rate limit: %w", ctx.Err())
	}
}

func (l *Limiter) bucket(key Key) Bucket {
	return Bucket{Name: l.o.Name, Key: key, Window: WindowOf(l.o.Now(), l.o.Window)}
}

// usedUp reports whether this instance knows that a bucket has nothing left.
func (l *Limiter) usedUp(b Bucket) bool {
	n, _ := l.memory.count(b)
	return n >= l.o.Limit
}

// Return gives back what a decision has granted and its caller did not use. Where
// the store cannot take it back, the grant is lost.
func (l *Limiter) Return(d Decision) {
	if !d.Granted {
		return
	}
	if l.breaker != nil {
		l.breaker.giveBack(d.bucket, 1)
	}
	// After the store: until then it would answer that the bucket is full.
	_ = l.memory.Return(context.Background(), d.bucket, 1) // It cannot fail.
	l.ceiling.release(d.bucket.Key, d.bucket.Window, 1)
}

// join puts a request into the bucket's queue and sees that it is served.
func (l *Limiter) join(b Bucket) *waiter {
	w := newWaiter()
	l.mu.Lock()
	defer l.mu.Unlock()
	q, served := l.queues[b]
	if !served {
		q = &queue{}
		l.queues[b] = q
		go l.serve(b, q)
	}
	q.waiting = append(q.waiting, w)
	return w
}

// leave takes a request out of the queue again, unless it is being answered.
func (l *Limiter) leave(b Bucket, w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q, ok := l.queues[b]; ok {
		q.waiting = slices.DeleteFunc(q.waiting, func(x *waiter) bool { return x == w })
	}
}

// serve answers all requests that wait for one bucket, until there are none. It
// has a goroutine of its own, so that a visitor who disconnects does not abort
// what others wait for.
//
// After a contended answer it refuses those that have queued meanwhile: where
// other instances have kept the bucket busy for as long as a request may wait,
// asking again would take as long.
func (l *Limiter) serve(b Bucket, q *queue) {
	contended := false
	for batch := l.next(b, q); batch != nil; batch = l.next(b, q) {
		if !contended {
			contended = l.ask(b, batch)
			continue
		}
		contended = false
		for _, w := range batch {
			w.verdict <- verdict{decision: l.refuse(b, ByContention)}
		}
	}
}

// next takes all waiting requests out of the queue. Without any, the queue ends.
func (l *Limiter) next(b Bucket, q *queue) []*waiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(q.waiting) == 0 {
		delete(l.queues, b)
		return nil
	}
	batch := q.waiting
	q.waiting = nil
	return batch
}

// ask asks the store once for all of batch. It asks for no more than is known to
// be left, and for no more than the ceiling allows.
func (l *Limiter) ask(b Bucket, batch []*waiter) (contended bool) {
	known, seen := l.memory.count(b)
	want := max(0, min(len(batch), l.o.Limit-known))
	r := l.ceiling.reserve(b.Key, want)
	var g Grant
	var err error
	if r.n > 0 {
		g, err = l.grant(b, Ask{N: r.n, Limit: l.o.Limit, Seen: seen})
		l.ceiling.release(b.Key, r.window, r.n-g.N)
	}
	before := max(known, g.Before)
	if r.n > 0 && err == nil {
		l.memory.raise(b, before+g.N)
	}
	for i, w := range batch {
		switch {
		case i < g.N:
			w.verdict <- verdict{decision: l.granted(b, before+i)}
		case err != nil && !errors.Is(err, ErrContended):
			w.verdict <- verdict{err: err}
		case i < want && g.N == r.n && r.networkFull:
			d := l.decision(b)
			d.Refused, d.First, r.first = ByNetwork, r.first, false
			w.verdict <- verdict{decision: d}
		case i < want && g.N == r.n:
			w.verdict <- verdict{err: overCapacity(untilEnd(b.Window, l.o.Now()))}
		case errors.Is(err, ErrContended):
			w.verdict <- verdict{decision: l.refuse(b, ByContention)}
		default:
			w.verdict <- verdict{decision: l.refuse(b, ByAddress)}
		}
	}
	return errors.Is(err, ErrContended)
}

// grant asks the store, or the memory where there is no store or it is down and
// the operator lets this instance go on alone.
func (l *Limiter) grant(b Bucket, ask Ask) (Grant, error) {
	if l.breaker != nil {
		g, err := l.breaker.grant(b, ask)
		if err == nil || errors.Is(err, ErrContended) {
			return g, err
		}
		if l.o.Deny {
			return Grant{}, err
		}
	}
	g, err := l.memory.Grant(context.Background(), b, ask)
	if err != nil {
		l.logFull(b.Window, err)
	}
	return g, err
}

// granted is the decision for a request that finds count others in its bucket.
func (l *Limiter) granted(b Bucket, count int) Decision {
	d := l.decision(b)
	d.Granted, d.Remaining = true, max(0, l.o.Limit-count-1)
	return d
}

func (l *Limiter) refuse(b Bucket, why Refusal) Decision {
	d := l.decision(b)
	d.Refused, d.First = why, l.memory.refuse(b)
	return d
}

func (l *Limiter) decision(b Bucket) Decision {
	return Decision{Name: l.o.Name, Limit: l.o.Limit, Window: l.o.Window, Reset: untilEnd(b.Window, l.o.Now()), bucket: b}
}

// logFull reports a full memory, once in a window.
func (l *Limiter) logFull(w Window, err error) {
	l.full.Lock()
	defer l.full.Unlock()
	if w != l.full.logged {
		l.full.logged = w
		l.o.Log.Error("a request was refused that could not be counted", "limit", l.o.Name, "error", err)
	}
}
