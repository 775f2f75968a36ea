//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"docent/internal/process"
	"docent/internal/standin"
)

const (
	soakWorkers = 8
	// soakPhase makes a round longer than 30 s: a rejected secret is looked up again
	// at most once in that time.
	soakPhase = 6500 * time.Millisecond
	// soakPause limits the load: more than any docs site sees, but within the reach
	// of a small machine.
	soakPause = 5 * time.Millisecond
	// soakQuiet is how long connections and pools have to close.
	soakQuiet = 5 * time.Second
	// soakLimit is the sessions a minute of one address, the default.
	soakLimit = 5
	// soakGrowth is how much more may be resident after many rounds than after one.
	soakGrowth = 1.25
	// soakSlack is for connections that are being closed or replaced: each is a file
	// and two goroutines. A leak adds up to thousands.
	soakSlack = 6
)

// soak sends the real process mixed traffic while its dependencies fail and
// recover. What it holds afterwards is compared with what an identical process
// holds after one round of the same: by then everything that is made once is made.
func (b *bench) soak(ctx context.Context, duration time.Duration) error {
	before, err := b.shift(ctx, 0)
	if err != nil {
		return fmt.Errorf("one round: %w", err)
	}
	after, err := b.shift(ctx, duration)
	if err != nil {
		return err
	}
	fmt.Printf("after one round (%d requests): %s\nafter %s (%d requests): %s\n", before.requests, before, duration, after.requests, after)
	if after.goroutines > before.goroutines+soakSlack || after.files > before.files+soakSlack || after.resident > before.resident*soakGrowth {
		return fmt.Errorf("goroutines, files or memory pile up: they should be back where they were after one round\n%s", after.dump)
	}
	return nil
}

// footprint is what an idle process holds.
type footprint struct {
	requests, goroutines, files int
	resident                    float64 // MiB
	dump                        string  // All goroutines.
}

func (f footprint) String() string {
	return fmt.Sprintf("%d goroutines, %d files, %.1f MiB resident", f.goroutines, f.files, f.resident)
}

// soaking is one process and its surroundings.
type soaking struct {
	server   *process.Process
	openai   *standin.OpenAI
	manager  *standin.SecretManager
	emulator *standin.FirestoreEmulator // Nil where none is installed.
	failing  atomic.Bool                // OpenAI fails.
	rotation int

	mu       sync.Mutex
	requests int
	granted  map[string]int // By address and minute.
	wrong    []error
}

// shift runs a process for the duration, at least for one round of faults, and
// returns what it holds at the end.
func (b *bench) shift(ctx context.Context, duration time.Duration) (footprint, error) {
	s := &soaking{openai: standin.NewOpenAI("", secrets["workflow"]), granted: map[string]int{}}
	stop, err := s.open(ctx, b)
	if err != nil {
		return footprint{}, err
	}
	defer stop()

	working, finish := context.WithCancel(ctx)
	defer finish()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: soakWorkers}}
	var workers sync.WaitGroup
	for n := range soakWorkers {
		workers.Go(func() { s.work(working, client, n) })
	}
	for end := time.Now().Add(duration); ; {
		if err = s.round(ctx); err != nil || !time.Now().Before(end) {
			break
		}
	}
	finish()
	workers.Wait()
	client.CloseIdleConnections()
	if err != nil {
		return footprint{}, err
	}
	rest(ctx, soakQuiet)
	f := footprint{requests: s.requests, files: files(s.server), resident: status(s.server, "VmRSS")}
	if f.dump, err = quit(s.server); err != nil {
		return footprint{}, err
	}
	f.goroutines = strings.Count(f.dump, "\ngoroutine ")
	return f, errors.Join(s.wrong...)
}

// open starts the process and its dependencies. stop ends them.
func (s *soaking) open(ctx context.Context, b *bench) (stop func(), err error) {
	var closers []func()
	stop = func() {
		for _, c := range slices.Backward(closers) {
			c()
		}
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	if s.manager, err = secretManager(); err != nil {
		return nil, err
	}
	closers = append(closers, s.manager.Close)
	s.rotate()

	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("stand-in OpenAI: %w", err)
	}
	// It closes idle connections soon, so that none are left to be counted.
	upstream := &http.Server{Handler: http.HandlerFunc(s.upstream), ReadHeaderTimeout: time.Minute, IdleTimeout: time.Second}
	go upstream.Serve(l)                                   //nolint:errcheck // It ends with ErrServerClosed.
	closers = append(closers, func() { upstream.Close() }) //nolint:errcheck // Nothing asks any more.

	at := outside{secrets: s.manager.Address(), openAI: l.Addr().String()}
	env := [][]string{at.upstream(), at.manager(), {"SECRETS_TTL=1s", "GOTRACEBACK=all"}}
	s.emulator, err = warmEmulator(ctx)
	switch {
	case err == nil:
		closers = append(closers, s.emulator.Stop)
		env = append(env, outside{store: s.emulator.Address()}.firestore())
	case errors.Is(err, standin.ErrNoEmulator) && os.Getenv("CI") != "true":
		fmt.Fprintln(os.Stderr, "soaking without a store:", err)
	default:
		return nil, err
	}
	if s.server, err = b.docent(ctx, env...); err != nil {
		return nil, err
	}
	closers = append(closers, func() { s.server.Stop() }) //nolint:errcheck // SIGQUIT ended it, or the soak has failed.
	return stop, nil
}

// round lets everything work for a while, then lets one dependency after the
// other fail and recover.
func (s *soaking) round(ctx context.Context) error {
	rest(ctx, soakPhase)
	s.failing.Store(true)
	rest(ctx, soakPhase)
	s.failing.Store(false)

	s.rotate()
	rest(ctx, soakPhase)

	if s.emulator != nil {
		s.emulator.Stop()
	}
	rest(ctx, soakPhase)
	if s.emulator != nil {
		if err := s.emulator.Start(ctx); err != nil {
			return fmt.Errorf("starting the emulator again: %w", err)
		}
	}
	rest(ctx, soakPhase)
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(append(s.wrong, ctx.Err())...)
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// rotate adds a new version of the key, and has OpenAI reject all others.
func (s *soaking) rotate() {
	s.rotation++
	key := fmt.Sprint("sk-soak-key-number-", s.rotation)
	s.manager.Add(project+"/key", key)
	s.openai.SetKey(key)
}

// upstream is OpenAI, which may be failing.
func (s *soaking) upstream(w http.ResponseWriter, r *http.Request) {
	if !s.failing.Load() {
		s.openai.ServeHTTP(w, r)
		return
	}
	switch rand.IntN(8) { //nolint:gosec // It keeps no secret.
	case 0:
		http.Error(w, "<html>", http.StatusInternalServerError)
	case 1:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "{}", http.StatusTooManyRequests)
	case 2:
		http.Error(w, "{}", http.StatusBadRequest)
	case 3:
		http.Error(w, "{}", http.StatusNotFound)
	case 4:
		io.WriteString(w, `{"client_secret":`) //nolint:errcheck // The client may have gone.
	case 5:
		panic(http.ErrAbortHandler)
	case 6:
		rest(r.Context(), soakPhase)
		s.openai.ServeHTTP(w, r)
	default:
		s.openai.ServeHTTP(w, r)
	}
}

// work sends requests of all kinds, one after the other.
func (s *soaking) work(ctx context.Context, client *http.Client, worker int) {
	for n := worker; ctx.Err() == nil; n += soakWorkers {
		if err := s.visit(ctx, client, n); err != nil && ctx.Err() == nil {
			s.mu.Lock()
			s.wrong = append(s.wrong, err)
			s.mu.Unlock()
			return
		}
		rest(ctx, soakPause)
	}
}

// visit sends the n-th request and checks its answer.
func (s *soaking) visit(ctx context.Context, client *http.Client, n int) error {
	method, path, page, address := http.MethodPost, sessionPath, origin, fmt.Sprintf("10.1.%d.%d", n/256%256, n%256)
	allowed := []int{http.StatusOK, http.StatusTooManyRequests}
	failing := s.failing.Load()
	switch rand.IntN(16) { //nolint:gosec // It keeps no secret.
	case 0:
		method, allowed = http.MethodOptions, []int{http.StatusOK}
	case 1:
		method, path, allowed = http.MethodGet, "/health", []int{http.StatusOK}
	case 2:
		method, path, allowed = http.MethodGet, widgetPath, []int{http.StatusOK}
	case 3:
		path, allowed = "/nothing", []int{http.StatusNotFound}
	case 4:
		page, allowed = "https://elsewhere.example.com", []int{http.StatusForbidden}
	case 5:
		address, allowed = "nowhere", []int{http.StatusBadRequest}
	case 6: // Hangs up.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
	case 7, 8: // One of many visitors.
	default: // One of a few who ask too often.
		address = fmt.Sprintf("10.2.0.%d", n%32)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.server.Address+path, nil)
	if err != nil {
		return fmt.Errorf("soak: %w", err)
	}
	req.Header.Set("Origin", page)
	req.Header.Set("X-Forwarded-For", address)
	if method == http.MethodOptions {
		req.Header.Set("Access-Control-Request-Method", http.MethodPost)
	}
	began := time.Now()
	resp, err := client.Do(req)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close() //nolint:errcheck // Read only.
	}
	switch {
	case ctx.Err() != nil:
		return nil // It hung up, or the soak is over.
	case err != nil:
		return fmt.Errorf("soak: %w", err)
	}
	if path == sessionPath && (failing || s.failing.Load()) {
		allowed = append(allowed, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout)
	}
	if !slices.Contains(allowed, resp.StatusCode) {
		return fmt.Errorf("%s %s was answered by %d", method, path, resp.StatusCode)
	}
	if method == http.MethodPost && resp.StatusCode == http.StatusOK {
		return s.grant(address, began, time.Now())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	return nil
}

// grant counts a session, unless it may belong to either of two minutes.
func (s *soaking) grant(address string, began, ended time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	minute := began.Truncate(time.Minute)
	if !minute.Equal(ended.Truncate(time.Minute)) {
		return nil
	}
	bucket := fmt.Sprint(address, " ", minute.Unix())
	if s.granted[bucket]++; s.granted[bucket] > soakLimit {
		return fmt.Errorf("%s was granted %d sessions in one minute", address, s.granted[bucket])
	}
	return nil
}

// leak matches what must not be in the output of a process: keys, client secrets,
// cookies, visitors' addresses.
var leak = regexp.MustCompile(`sk-soak|` + regexp.QuoteMeta(secrets["identity"]) + `|ek_\w|__session|\b10\.[12]\.\d+\.\d+`)

// quit ends the process with SIGQUIT, at which every Go program prints its
// goroutines: the service needs no endpoint for it.
func quit(p *process.Process) (dump string, err error) {
	if err := p.Signal(syscall.SIGQUIT); err != nil {
		return "", fmt.Errorf("asking for goroutines: %w", err)
	}
	p.Wait() //nolint:errcheck // The runtime exits with status 2.
	log, dump, ok := strings.Cut(p.Output.String(), "SIGQUIT: quit")
	if !ok {
		return "", fmt.Errorf("the process did not print its goroutines:\n%s", log)
	}
	if found := leak.FindString(log); found != "" {
		return "", fmt.Errorf("the process wrote %q", found)
	}
	return dump, nil
}
