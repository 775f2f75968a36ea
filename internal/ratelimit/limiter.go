// Package ratelimit decides how many sessions an address may have in a minute.
//
// Four things are kept apart: the arithmetic ([Decision]), the count ([Store]:
// in memory or in Firestore), the gate in front of the count ([Limiter]) that
// spares it work, and what happens while the count is out of order. None of
// them knows what is being limited.
package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// StoreTimeout is the longest that a request waits for the store.
const StoreTimeout = 4 * time.Second

// ErrUnavailable is returned while the store is out of order and nobody may be
// granted anything without it.
var ErrUnavailable = errors.New("rate limit store is unavailable")

// Options configure a [Limiter]. All are required but Store.
type Options struct {
	// Limit is the grants that one bucket has.
	Limit int
	// Ceiling is the grants that this instance gives in a minute, whoever asks.
	Ceiling int
	// Store counts for all instances. Without one, this instance counts alone.
	Store Store
	// Deny refuses everybody while Store is out of order, instead of counting
	// on in memory.
	Deny bool
	// StoreTimeout bounds each call of Store, whoever still waits for it.
	StoreTimeout time.Duration
	// Log is told when the store fails and when it is back, never an address.
	Log *slog.Logger
	// Now is the clock.
	Now func() time.Time
}

// Limiter is the gate in front of a [Store]. Requests for one bucket that
// arrive while the store is being asked about it are asked for together, next
// time; nobody waits behind another bucket. What the store has answered is
// remembered: a bucket that is known to be full is refused without asking.
//
// The memory is the [Memory] store, which thereby also counts everything that
// this instance has granted from a bucket, so that it can take over in
// mid-minute when the store fails, and hand back, without ever granting more
// than the limit.
type Limiter struct {
	Options

	memory  *Memory
	ceiling ceiling
	store   *fallible // nil: memory is the store

	mu     sync.Mutex
	queues map[Bucket]*queue

	full struct {
		sync.Mutex

		logged Minute
	}
}

// queue holds the requests for one bucket that the next question to the store
// will be about. It exists while there is one.
type queue struct{ waiting []*waiter }

type waiter struct{ answer chan answer }

// newWaiter returns a waiter whose answer is buffered: it may have left.
func newWaiter() *waiter { return &waiter{answer: make(chan answer, 1)} }

type answer struct {
	decision Decision
	err      error
}

// New returns a limiter that has granted nothing yet.
func New(o Options) *Limiter {
	l := &Limiter{
		Options: o,
		memory:  NewMemory(o.Now),
		ceiling: ceiling{max: o.Ceiling, clock: clock{now: o.Now}, networks: map[Key]share{}},
		queues:  map[Bucket]*queue{},
	}
	if o.Store != nil {
		l.store = &fallible{store: o.Store, timeout: o.StoreTimeout, log: o.Log, now: o.Now}
	}
	return l
}

// StoreFailed tells the limiter at the start that the store is out of order, so
// that the first visitors do not have to find out.
func (l *Limiter) StoreFailed(err error) { l.store.fail(era{}, err) }

// Take asks for one grant for the address, which must be valid. It fails with
// [ErrUnavailable], [ErrFull], an [*OverCapacityError], or context.Canceled. If
// ctx ends first, the visitor leaves the queue, and nobody else notices; a
// deadline that passes there is [ErrUnavailable].
func (l *Limiter) Take(ctx context.Context, addr netip.Addr) (Decision, error) {
	b := Bucket{Key: KeyOf(addr), Minute: MinuteOf(l.Now())}
	if n, _ := l.memory.count(b); n >= l.Limit {
		return l.refuse(b, ByAddress), nil
	}
	if l.store == nil {
		w := newWaiter()
		l.answer(b, []*waiter{w}) // Memory is as fast as a queue for it would be.
		a := <-w.answer
		return a.decision, a.err
	}
	w := l.join(b)
	select {
	case a := <-w.answer:
		return a.decision, a.err
	case <-ctx.Done():
		l.leave(b, w)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return Decision{}, fmt.Errorf("%w: no answer in the request's time", ErrUnavailable)
		}
		return Decision{}, fmt.Errorf("waiting for the rate limit: %w", ctx.Err())
	}
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

// serve answers all who wait for one bucket, until nobody does. It runs on its
// own, so that a visitor who disconnects does not abort what others wait for.
//
// Whoever has queued meanwhile is refused after a contended answer: where other
// instances have kept the bucket busy for as long as one may wait, asking again
// would take as long.
func (l *Limiter) serve(b Bucket, q *queue) {
	contended := false
	for batch := l.next(b, q); batch != nil; batch = l.next(b, q) {
		if !contended {
			contended = l.answer(b, batch)
			continue
		}
		contended = false
		for _, w := range batch {
			w.answer <- answer{decision: l.refuse(b, ByContention)}
		}
	}
}

// next takes all who wait out of the queue. Where nobody does, the queue ends.
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

// answer asks the store once for all of batch. It asks for no more than is
// known to be left, and for no more than the ceiling allows.
func (l *Limiter) answer(b Bucket, batch []*waiter) (contended bool) {
	known, seen := l.memory.count(b)
	want := max(0, min(len(batch), l.Limit-known))
	r := l.ceiling.reserve(b.Key, want)
	var g Grant
	var err error
	if r.n > 0 {
		g, err = l.grant(b, Ask{N: r.n, Limit: l.Limit, Seen: seen})
		l.ceiling.release(r, r.n-g.N)
	}
	before := max(known, g.Before)
	if r.n > 0 && err == nil {
		l.memory.raise(b, before+g.N)
	}
	for i, w := range batch {
		switch {
		case i < g.N:
			w.answer <- answer{decision: decide(before+i, l.Limit, b.Minute, l.Now())}
		case err != nil && !errors.Is(err, ErrContended):
			w.answer <- answer{err: err}
		case i < want && g.N == r.n && r.networkFull:
			d := l.refusal(b, ByNetwork)
			d.First, r.first = r.first, false
			w.answer <- answer{decision: d}
		case i < want && g.N == r.n:
			w.answer <- answer{err: overCapacity(untilEnd(b.Minute, l.Now()))}
		case errors.Is(err, ErrContended):
			w.answer <- answer{decision: l.refuse(b, ByContention)}
		default:
			w.answer <- answer{decision: l.refuse(b, ByAddress)}
		}
	}
	return errors.Is(err, ErrContended)
}

// grant asks the store, or the memory where there is none or it is out of
// order and the operator lets this instance go on alone.
func (l *Limiter) grant(b Bucket, ask Ask) (Grant, error) {
	if l.store != nil {
		g, err := l.store.Grant(b, ask)
		if err == nil || errors.Is(err, ErrContended) {
			return g, err
		}
		if l.Deny {
			return Grant{}, err
		}
	}
	g, err := l.memory.Grant(context.Background(), b, ask)
	if err != nil {
		l.logFull(b.Minute, err)
	}
	return g, err
}

func (l *Limiter) refuse(b Bucket, why Refusal) Decision {
	d := l.refusal(b, why)
	d.First = l.memory.refuse(b)
	return d
}

func (l *Limiter) refusal(b Bucket, why Refusal) Decision {
	d := decide(l.Limit, l.Limit, b.Minute, l.Now())
	d.Refused = why
	return d
}

// logFull reports a full memory, once a minute.
func (l *Limiter) logFull(minute Minute, err error) {
	l.full.Lock()
	defer l.full.Unlock()
	if minute != l.full.logged {
		l.full.logged = minute
		l.Log.Error("an address was refused that could not be counted", "error", err)
	}
}
