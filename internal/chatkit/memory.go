package chatkit

import (
	"cmp"
	"container/list"
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// The bounds of a [Memory]. What was not used for longest goes first.
const (
	maxThreads = 10_000
	maxMemory  = 64 << 20 // Bytes, as [entry.size] counts them.
)

// Memory is a [Store] in this process, of at most 10,000 threads in 64 MiB. It is
// safe for concurrent use. Its only errors are [ErrNotFound] and [ErrConflict].
type Memory struct {
	keep time.Duration
	now  func() time.Time

	mu       sync.Mutex
	visitors map[string]map[string]*list.Element // By visitor and thread ID.
	used     *list.List                          // Of entries, the last used first.
	size     int                                 // Of all entries.
	version  int64                               // The last that was given.
	// expiry is an instant before which no thread expires.
	expiry time.Time
}

// entry is a thread in memory. Its items are encoded: that is what they count, and
// nobody shares them.
type entry struct {
	visitor string
	thread  Thread // Without its items.
	items   []byte
}

// overhead is what an entry takes besides its texts: 530 bytes for each of 10,000
// threads of as many visitors, measured on a 64-bit machine, and some room.
const overhead = 1 << 10

func (e *entry) size() int {
	return overhead + len(e.visitor) + len(e.thread.ID) + len(e.thread.Title) + len(e.items)
}

// NewMemory returns an empty store, which keeps a thread for as long after its last
// update.
func NewMemory(keep time.Duration, now func() time.Time) *Memory {
	return &Memory{keep: keep, now: now, visitors: map[string]map[string]*list.Element{}, used: list.New()}
}

// Get implements [Store].
func (m *Memory) Get(_ context.Context, visitor, id string) (Thread, error) {
	m.mu.Lock()
	m.expire()
	found, ok := m.visitors[visitor][id]
	if !ok {
		m.mu.Unlock()
		return Thread{}, ErrNotFound
	}
	m.used.MoveToFront(found)
	t, items := entryOf(found).thread, entryOf(found).items
	m.mu.Unlock()

	var err error
	t.Items, err = DecodeItems(items)
	return t, err
}

// Put implements [Store].
func (m *Memory) Put(_ context.Context, visitor string, t Thread) (version int64, err error) {
	if !ValidID(t.ID) {
		return 0, ErrNotFound
	}
	items, err := EncodeItems(t.Items)
	if err != nil {
		return 0, err
	}
	// A clone: the encoder's buffer may be twice as large.
	e := &entry{visitor: visitor, thread: t, items: slices.Clone(items)}
	e.thread.Items = nil
	e.thread.Created, e.thread.Updated = TimeOf(t.Created).Time, TimeOf(t.Updated).Time

	m.mu.Lock()
	defer m.mu.Unlock()
	// Before what has expired is removed: a turn that began in time is stored.
	found, ok := m.visitors[visitor][t.ID]
	switch {
	case !ok && t.Version != 0:
		return 0, ErrNotFound
	case ok && entryOf(found).thread.Version != t.Version:
		if t.Version != 0 && m.gone(entryOf(found)) {
			return 0, ErrNotFound
		}
		return 0, ErrConflict
	case ok:
		m.remove(found)
	}
	m.version++
	e.thread.Version = m.version
	m.add(e)
	m.expire()
	for m.used.Len() > maxThreads || m.size > maxMemory {
		m.remove(m.used.Back())
	}
	return e.thread.Version, nil
}

// List implements [Store].
func (m *Memory) List(_ context.Context, visitor string, p Cursor) (threads []Thread, more bool, err error) {
	m.mu.Lock()
	m.expire()
	for _, e := range m.visitors[visitor] {
		threads = append(threads, entryOf(e).thread)
	}
	m.mu.Unlock()

	slices.SortFunc(threads, func(a, b Thread) int {
		return cmp.Or(a.Updated.Compare(b.Updated), strings.Compare(a.ID, b.ID))
	})
	if !p.Ascending {
		slices.Reverse(threads)
	}
	if p.After != "" {
		i := slices.IndexFunc(threads, func(t Thread) bool { return t.ID == p.After })
		if i < 0 {
			return nil, false, nil
		}
		threads = threads[i+1:]
	}
	n := min(len(threads), p.Limit)
	return threads[:n], n < len(threads), nil
}

// Delete implements [Store].
func (m *Memory) Delete(_ context.Context, visitor, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	found, ok := m.visitors[visitor][id]
	if !ok {
		return ErrNotFound
	}
	m.remove(found)
	return nil
}

// add adds an entry as the last used.
func (m *Memory) add(e *entry) {
	threads := m.visitors[e.visitor]
	if threads == nil {
		threads = map[string]*list.Element{}
		m.visitors[e.visitor] = threads
	}
	if expiry := m.expiryOf(e); m.used.Len() == 0 || expiry.Before(m.expiry) {
		m.expiry = expiry
	}
	threads[e.thread.ID] = m.used.PushFront(e)
	m.size += e.size()
}

func (m *Memory) remove(element *list.Element) {
	e := entryOf(element)
	m.used.Remove(element)
	m.size -= e.size()
	delete(m.visitors[e.visitor], e.thread.ID)
	if len(m.visitors[e.visitor]) == 0 {
		delete(m.visitors, e.visitor)
	}
}

// expire removes what has expired. It looks at the entries only when one may have.
func (m *Memory) expire() {
	if m.used.Len() == 0 || m.now().Before(m.expiry) {
		return
	}
	m.expiry = time.Time{}
	for element := m.used.Front(); element != nil; {
		e, next := entryOf(element), element.Next()
		if m.gone(e) {
			m.remove(element)
		} else if expiry := m.expiryOf(e); m.expiry.IsZero() || expiry.Before(m.expiry) {
			m.expiry = expiry
		}
		element = next
	}
}

func (m *Memory) expiryOf(e *entry) time.Time { return e.thread.Updated.Add(m.keep) }

func (m *Memory) gone(e *entry) bool { return !m.now().Before(m.expiryOf(e)) }

func entryOf(e *list.Element) *entry {
	return e.Value.(*entry) //nolint:errcheck,forcetypeassert // The list holds nothing else.
}
