//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	rateRounds = 9
	rateRound  = time.Second
	rateConns  = 32
)

// contest is a server under a load, and what each round has shown.
type contest struct {
	server   *process
	load     load
	rates    []float64 // Requests for each second of the server's processor time.
	p50, p99 []time.Duration
}

// compete gives each contestant its turn in every round, so that whatever else
// the machine does meets them alike. The first round does not count.
func (b *bench) compete(ctx context.Context, contestants ...*contest) error {
	for round := range rateRounds + 1 {
		for _, c := range contestants {
			used := c.server.cpu()
			c.load.address, c.load.conns, c.load.first = c.server.address, rateConns, b.visitors
			turn, cancel := context.WithTimeout(ctx, rateRound)
			r, err := c.load.run(turn)
			cancel()
			if err != nil {
				return err
			}
			if ctx.Err() != nil {
				return fmt.Errorf("measuring rates: %w", ctx.Err())
			}
			b.visitors += uint32(r.answered) + rateConns //nolint:gosec // Far below 2^24.
			if round == 0 {
				continue
			}
			c.rates = append(c.rates, float64(r.answered)/(c.server.cpu()-used).Seconds())
			c.p50, c.p99 = append(c.p50, r.quantile(0.5)), append(c.p99, r.quantile(0.99))
		}
	}
	return nil
}

// rated is a row of rates: what one core can answer. A second is one of the
// server's own processor time, since in one on the clock the load, the stand-in
// and whatever else runs have their share of the machine, and a server that waits
// for them would be measured by their speed.
//
// The ratio is the median of those of the rounds, since neighbours in time meet
// the machine in the same state.
func rated(what string, docent, yardstick *contest) row {
	var ratios []float64
	for i := range docent.rates {
		ratios = append(ratios, docent.rates[i]/yardstick.rates[i])
	}
	perSecond := func(c *contest) string { return fmt.Sprintf("%.0f/s", median(c.rates)) }
	return row{what: what, docent: perSecond(docent), yardstick: perSecond(yardstick), ratio: median(ratios)}
}

// rates measures requests a second, on one core as Cloud Run gives it.
func (b *bench) rates(ctx context.Context) error {
	memory, err := b.docent(ctx, join(oneCore, b.near.upstream())...)
	if err != nil {
		return err
	}
	defer memory.stop()
	stored, err := b.docent(ctx, join(oneCore, b.near.all())...)
	if err != nil {
		return err
	}
	defer stored.stop()
	proxy, err := b.yardstick(ctx, oneCore, "-proxy=http://"+b.near.openAI)
	if err != nil {
		return err
	}
	defer proxy.stop()

	admitted := load{request: session, allowed: []int{http.StatusOK}, patient: true}
	for _, store := range []struct {
		name   string
		server *process
		target float64
	}{{"memory", memory, 0.6}, {"Firestore", stored, 0}} {
		docent, yard := &contest{server: store.server, load: admitted}, &contest{server: proxy, load: admitted}
		if err := b.compete(ctx, docent, yard); err != nil {
			return err
		}
		rate := rated("admitted, "+store.name+" / bare reverse proxy", docent, yard)
		if store.target > 0 {
			rate = rate.atLeast(store.target)
		}
		b.add(rate)
		b.add(compared("  p50", median(docent.p50), median(yard.p50)))
		b.add(compared("  p99", median(docent.p99), median(yard.p99)))
	}

	etag, err := b.etag(ctx, memory)
	if err != nil {
		return err
	}
	unchanged := func(buf []byte, n uint32) []byte {
		buf = script(buf, n)
		return append(append(append(buf[:len(buf)-2], "If-None-Match: "...), etag...), "\r\n\r\n"...)
	}
	for _, kind := range []struct {
		name    string
		request request
		status  int
		target  float64
	}{
		{"refused (429)", sameVisitor, http.StatusTooManyRequests, 0.65},
		{"preflights", preflight, http.StatusOK, 0},
		{"widget (200)", script, http.StatusOK, 0},
		{"widget (304)", unchanged, http.StatusNotModified, 0},
	} {
		if err := b.answers(ctx, memory, kind.name, kind.request, kind.status, kind.target); err != nil {
			return fmt.Errorf("%s: %w", kind.name, err)
		}
	}
	return nil
}

// answers compares a kind of request with a handler that gives the same answer
// without working for it, and with one that gives its status and body alone: what
// the headers cost, net/http takes.
func (b *bench) answers(ctx context.Context, docent *process, name string, request request, status int, target float64) error {
	file, err := b.record(ctx, docent, request, status)
	if err != nil {
		return err
	}
	same, err := b.yardstick(ctx, oneCore, "-answer="+file)
	if err != nil {
		return err
	}
	defer same.stop()
	bare, err := b.yardstick(ctx, oneCore, "-answer="+file, "-bare")
	if err != nil {
		return err
	}
	defer bare.stop()
	l := load{request: request, allowed: []int{status, http.StatusOK}} // 200 for the first of each minute.
	contestants := []*contest{{server: docent, load: l}, {server: same, load: l}, {server: bare, load: l}}
	if err := b.compete(ctx, contestants...); err != nil {
		return err
	}
	rate := rated(name+" / chi handler, the same answer", contestants[0], contestants[1])
	if target > 0 {
		rate = rate.atLeast(target)
	}
	b.add(rate)
	b.add(rated("  / chi handler, the status and body alone", contestants[0], contestants[2]))
	return nil
}

// record returns a file with the answer of this status to a request.
func (b *bench) record(ctx context.Context, server *process, request request, status int) (file string, err error) {
	conn, err := server.dial(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close() //nolint:errcheck // All was read.
	for range 10 {     // More than a visitor's sessions in a minute.
		answer, got, err := answerTo(conn, request(nil, 0))
		if err != nil {
			return "", err
		}
		if got == status {
			file = filepath.Join(b.dir, "answer")
			if err := os.WriteFile(file, answer, 0o600); err != nil {
				return "", fmt.Errorf("keeping an answer: %w", err)
			}
			return file, nil
		}
	}
	return "", fmt.Errorf("no answer is %d", status)
}

// etag returns the widget's.
func (b *bench) etag(ctx context.Context, server *process) (string, error) {
	file, err := b.record(ctx, server, script, http.StatusOK)
	if err != nil {
		return "", err
	}
	answer, err := os.ReadFile(file) //nolint:gosec // It has just been written.
	if err != nil {
		return "", fmt.Errorf("reading an answer: %w", err)
	}
	_, etag, ok := strings.Cut(string(answer), "\r\nEtag: ")
	if etag, _, _ = strings.Cut(etag, "\r\n"); !ok {
		return "", errors.New("the widget has no ETag")
	}
	return etag, nil
}
