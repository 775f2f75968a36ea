package chatkit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"
)

// maxTries is how often a write is tried that other writes come before.
const maxTries = 3

// The errors of a [Server], besides those of [Parse] and [ErrNotFound].
var (
	// ErrItemNotFound is returned for an item that the thread does not have.
	ErrItemNotFound = errors.New("item not found")
	// ErrClosed is returned for a message to a thread that takes no more.
	ErrClosed = errors.New("thread is closed")
	// ErrUnavailable is returned while the store is down. It wraps the cause.
	ErrUnavailable = errors.New("conversations are unavailable")
)

// Options configure a [Server]. All are required.
type Options struct {
	Store     Store
	Responder Responder
	// StoreTimeout bounds each read and each write.
	StoreTimeout time.Duration
	// Now is the clock.
	Now func() time.Time
}

// Server answers requests. It is safe for concurrent use.
type Server struct{ o Options }

// New returns a server.
func New(o Options) *Server { return &Server{o} }

// Query answers a request that does not stream: it returns a value that encodes to
// the JSON of the answer. Its errors are [ErrNotFound], [ErrItemNotFound] and
// [ErrUnavailable].
func (s *Server) Query(ctx context.Context, visitor string, r Request) (any, error) {
	switch r.Type {
	case ThreadsGetByID:
		t, err := s.get(ctx, visitor, r.ThreadID)
		if err != nil {
			return nil, err
		}
		return t.object(t.page(Cursor{Limit: defaultPage, Ascending: true})), nil
	case ItemsList:
		t, err := s.get(ctx, visitor, r.ThreadID)
		if err != nil {
			return nil, err
		}
		return t.page(r.Cursor), nil
	case ThreadsList:
		return s.list(ctx, visitor, r.Cursor)
	case ThreadsUpdate:
		t, err := s.change(ctx, visitor, r.ThreadID, SetTitle(r.Title))
		if err != nil {
			return nil, err
		}
		return t.object(noItems()), nil
	case ItemsFeedback:
		return struct{}{}, s.feedback(ctx, visitor, r)
	case ThreadsDelete:
		return struct{}{}, s.delete(ctx, visitor, r.ThreadID)
	default:
		return nil, fmt.Errorf("%w: %s is not answered with JSON", ErrNotSupported, r.Type)
	}
}

func (s *Server) list(ctx context.Context, visitor string, c Cursor) (any, error) {
	if c.After != "" && !ValidID(c.After) {
		return page[*threadObject]{Data: []*threadObject{}}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.StoreTimeout)
	defer cancel()
	threads, more, err := s.o.Store.List(ctx, visitor, c)
	if err != nil {
		return nil, unavailable(err)
	}
	p := page[*threadObject]{Data: []*threadObject{}, HasMore: more}
	for _, t := range threads {
		p.Data = append(p.Data, t.object(noItems()))
	}
	if more {
		p.After = threads[len(threads)-1].ID
	}
	return p, nil
}

// page returns the items that a client may see, from a place on.
func (t *Thread) page(c Cursor) page[Item] {
	items := slices.DeleteFunc(slices.Clone(t.Items), func(i Item) bool { _, hidden := i.(*HiddenContext); return hidden })
	if !c.Ascending {
		slices.Reverse(items)
	}
	if c.After != "" {
		after := slices.IndexFunc(items, func(i Item) bool { return i.ItemID() == c.After })
		if after < 0 {
			return noItems()
		}
		items = items[after+1:]
	}
	if len(items) <= c.Limit {
		return page[Item]{Data: items}
	}
	items = items[:c.Limit]
	return page[Item]{Data: items, HasMore: true, After: items[len(items)-1].ItemID()}
}

func (s *Server) feedback(ctx context.Context, visitor string, r Request) error {
	t, err := s.get(ctx, visitor, r.ThreadID)
	if err != nil {
		return err
	}
	// A client names all items of a turn, and some may be gone after a retry.
	if !slices.ContainsFunc(r.ItemIDs, func(id string) bool { return t.index(id) >= 0 }) {
		return ErrItemNotFound
	}
	_, err = s.write(ctx, visitor, t, SetFeedback(r.Kind, r.ItemIDs...))
	return err
}

func (s *Server) delete(ctx context.Context, visitor, id string) error {
	if !ValidID(id) {
		return ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.StoreTimeout)
	defer cancel()
	if err := s.o.Store.Delete(ctx, visitor, id); err != nil {
		return unavailable(err)
	}
	return nil
}

// get reads a thread. Its errors are [ErrNotFound] and [ErrUnavailable].
func (s *Server) get(ctx context.Context, visitor, id string) (Thread, error) {
	if !ValidID(id) {
		return Thread{}, ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.StoreTimeout)
	defer cancel()
	t, err := s.o.Store.Get(ctx, visitor, id)
	if err != nil {
		return Thread{}, unavailable(err)
	}
	return t, nil
}

// change reads a thread and writes it back changed.
func (s *Server) change(ctx context.Context, visitor, id string, ops ...Operation) (Thread, error) {
	t, err := s.get(ctx, visitor, id)
	if err != nil {
		return Thread{}, err
	}
	return s.write(ctx, visitor, t, ops...)
}

// write stores a thread with operations applied. Where another write came first,
// it applies them to what that has left. Its errors are those of get.
func (s *Server) write(ctx context.Context, visitor string, t Thread, ops ...Operation) (Thread, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.StoreTimeout)
	defer cancel()
	for try := 1; ; try++ {
		next, err := t.apply(ops, s.o.Now())
		if err != nil {
			return Thread{}, err
		}
		next.Version, err = s.o.Store.Put(ctx, visitor, next)
		if err == nil {
			return next, nil
		}
		if !errors.Is(err, ErrConflict) || try == maxTries {
			return Thread{}, unavailable(err)
		}
		if t, err = s.o.Store.Get(ctx, visitor, t.ID); err != nil {
			return Thread{}, unavailable(err)
		}
	}
}

// unavailable returns a store's error as the server's.
func unavailable(err error) error {
	if errors.Is(err, ErrNotFound) {
		return ErrNotFound
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// newID returns an ID of 130 random bits.
func newID(kind string) string { return kind + "_" + rand.Text() }
