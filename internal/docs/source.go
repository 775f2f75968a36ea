package docs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// startTime is how long a start waits for the first index.
	startTime = 10 * time.Second
	// retryTime is the least time between a load that failed and the next one. It
	// doubles with each failure up to the time between refreshes, while there is an
	// index to answer from.
	retryTime = 10 * time.Second
	// maxShrink is how many times fewer sections a new index may have.
	maxShrink = 10
)

// ErrNotLoaded is the error of a search before the first index has come.
var ErrNotLoaded = errors.New("no index has been loaded yet")

// SourceOptions configure a [Source]. All are required but Embedder and Transport.
type SourceOptions struct {
	// Location is what [Load] takes.
	Location string
	// Refresh is the age of an index after which its URL is asked again. A path is
	// read once.
	Refresh time.Duration
	// Embedder is for [NewIndex].
	Embedder Embedder
	// Log gets what an operator must know of refreshes.
	Log *slog.Logger
	// Now is the clock that tells an index's age.
	Now func() time.Time
	// Transport makes the requests. Default: one with bounds of its own.
	Transport http.RoundTripper
}

// Source is the newest index of a location. It implements [Searcher], and is safe for
// concurrent use.
//
// Only [Source.Passages] and [Source.Ready] start a refresh, which then runs in the background: Cloud Run gives
// an instance its CPU while there are requests. A refresh that fails keeps the index
// that there is.
type Source struct {
	o      SourceOptions
	remote *remote // Nil for a path.
	index  atomic.Pointer[Index]

	mu       sync.Mutex
	closed   bool
	stop     context.CancelFunc // Ends the load that runs, or is nil.
	loads    sync.WaitGroup
	due      time.Time // When the next load may begin.
	faults   int       // How many loads in a row have failed.
	stamp    stamp
	sections int // How many the index has.
}

// Open loads the index. A path that cannot be read, or that has no valid index, is an
// error. A URL that fails is not: it is logged, and tried again on later searches.
// Open waits for it for at most ten seconds. ctx only bounds Open itself.
func Open(ctx context.Context, o SourceOptions) (*Source, error) {
	s := &Source{o: o}
	if !strings.Contains(o.Location, "://") {
		site, _, err := loadFile(o.Location)
		if err != nil {
			return nil, err
		}
		if err := s.use(site); err != nil {
			return nil, fmt.Errorf("%s: %w", o.Location, err)
		}
		return s, nil
	}
	var err error
	if s.remote, err = newRemote(o.Location, o.Transport); err != nil {
		return nil, err
	}
	select {
	case <-s.refresh(ctx):
	case <-time.After(startTime):
		o.Log.Warn("the docs index is still being loaded, there are no answers from the docs until then", "index", s.remote.String())
	case <-ctx.Done():
		s.Close()
		return nil, fmt.Errorf("loading the index from %s: %w", s.remote, ctx.Err())
	}
	return s, nil
}

// Close ends a load that runs and waits for it. Searches go on with the index that
// there is.
func (s *Source) Close() {
	s.mu.Lock()
	s.closed = true
	if s.stop != nil {
		s.stop()
	}
	s.mu.Unlock()
	s.loads.Wait()
}

// Passages implements [Searcher]. Before there is an index, it fails with
// [ErrNotLoaded].
func (s *Source) Passages(ctx context.Context, q Query) (Found, error) {
	if err := s.Ready(ctx); err != nil {
		return Found{}, err
	}
	return s.index.Load().Passages(ctx, q)
}

// Ready returns [ErrNotLoaded] while there is no index. As a search does, it begins a
// load if it is time.
func (s *Source) Ready(ctx context.Context) error {
	if s.remote != nil {
		s.refresh(ctx)
	}
	if s.index.Load() == nil {
		return ErrNotLoaded
	}
	return nil
}

// refresh begins a load in the background if it is time and none runs. It returns a
// channel that is closed when that load has ended, or nil.
func (s *Source) refresh(ctx context.Context) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.stop != nil || s.o.Now().Before(s.due) {
		return nil
	}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx)) // The search does not wait for it.
	done, old := make(chan struct{}), s.stamp
	s.loads.Go(func() {
		defer close(done)
		site, fresh, err := s.remote.load(ctx, old)
		if err == nil && site != nil {
			err = s.use(site)
		}
		s.ended(fresh, err)
	})
	return done
}

// use puts a site's index in place of the one that there is.
func (s *Source) use(site *Site) error {
	sections := 0
	for range site.sections() {
		sections++
	}
	s.mu.Lock()
	before := s.sections
	s.mu.Unlock()
	switch {
	case sections == 0:
		return errors.New("the index has no sections: check the folder that it was made of")
	case sections*maxShrink < before:
		return fmt.Errorf("the new index has only %d sections, and the old one %d: restart Docent if that is right", sections, before)
	}
	index := NewIndex(site, s.o.Embedder)
	s.mu.Lock()
	if !s.closed {
		s.index.Store(index)
		s.sections = sections
	}
	s.mu.Unlock()
	s.o.Log.Info("docs index loaded", "pages", len(site.Pages), "sections", sections, "vectors", site.Model != "")
	return nil
}

// ended notes how a load ended. A change from good to bad or back is logged once.
func (s *Source) ended(fresh stamp, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	s.stop = nil
	if s.closed {
		return
	}
	now := s.o.Now()
	if err == nil {
		if s.faults > 0 {
			s.o.Log.Info("the docs index can be read again")
		}
		s.faults, s.stamp, s.due = 0, fresh, now.Add(s.o.Refresh)
		return
	}
	s.due = now.Add(retryTime)
	if s.index.Load() != nil {
		pause := retryTime << min(s.faults, 10)
		s.due = now.Add(min(pause, max(s.o.Refresh, retryTime)))
	}
	if s.faults++; s.faults > 1 {
		s.o.Log.Debug("the docs index could not be read again", "error", err)
		return
	}
	message := "docs index not refreshed, the one loaded before stays in use"
	if s.index.Load() == nil {
		message = "docs index not loaded, there are no answers from the docs; it is tried again with the next request"
	}
	s.o.Log.Warn(message, "error", err)
}
