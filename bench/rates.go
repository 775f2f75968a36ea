//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"docent/internal/process"
)

const (
	rateRounds = 9
	rateRound  = time.Second
	rateConns  = 32
	// everyone is more visitors than a run has.
	everyone = 1 << 24
)

// rates measures how many requests one core can answer.
func (b *bench) rates(ctx context.Context) error {
	docent, err := b.docent(ctx, oneCore, b.near.upstream())
	if err != nil {
		return err
	}
	defer stop(docent)
	proxy, err := launch(ctx, oneCore, b.yard, "-proxy=http://"+b.near.openAI)
	if err != nil {
		return err
	}
	defer stop(proxy)
	admitted := load{visitors: everyone, allowed: []int{http.StatusOK}}
	if err := b.compete(ctx, "admitted, memory / bare reverse proxy", admitted, docent, proxy, 0.6); err != nil {
		return err
	}

	same, err := b.replayer(ctx, docent, 0, http.StatusTooManyRequests)
	if err != nil {
		return err
	}
	defer stop(same)
	refused := load{visitors: 1, allowed: []int{http.StatusTooManyRequests, http.StatusOK}} // 200 for the first of each minute.
	return b.compete(ctx, "refused (429) / chi handler, the same answer", refused, docent, same, 0.65)
}

// compete loads both servers in turn, so that other work on the machine affects
// them alike, and adds a row with the lowest ratio that meets the target. The
// first round does not count.
//
// A rate is requests for each second of the server's own processor time. In a
// second on the clock, the load generator, the stand-in and other processes have
// their share of the machine as well.
//
// The ratio is the median of the rounds' ratios: turns close in time meet the
// machine in the same state.
func (b *bench) compete(ctx context.Context, what string, l load, docent, yardstick *process.Process, target float64) error {
	l.conns = rateConns
	var rates [2][]float64
	var ratios []float64
	for round := range rateRounds + 1 {
		var rate [2]float64
		for i, server := range []*process.Process{docent, yardstick} {
			l.address, l.first = server.Address, b.visitors
			used := cpu(server)
			answered, err := l.run(ctx, rateRound)
			if err != nil {
				return err
			}
			b.visitors += uint32(answered) //nolint:gosec // Far below 2^24.
			rate[i] = float64(answered) / (cpu(server) - used).Seconds()
		}
		if ctx.Err() != nil {
			return fmt.Errorf("measuring rates: %w", ctx.Err())
		}
		if round == 0 {
			continue
		}
		rates[0], rates[1] = append(rates[0], rate[0]), append(rates[1], rate[1])
		ratios = append(ratios, rate[0]/rate[1])
	}
	perSecond := func(rates []float64) string { return fmt.Sprintf("%.0f/s", median(rates)) }
	ratio := median(ratios)
	b.add(row{what, perSecond(rates[0]), perSecond(rates[1]), ratio, fmt.Sprintf("≥ %.2f", target), ratio >= target})
	return nil
}

// replayer starts a handler that gives the answer with this status that Docent
// gives a visitor, without the work for it.
func (b *bench) replayer(ctx context.Context, docent *process.Process, visitor uint32, status int) (*process.Process, error) {
	c, err := dial(ctx, docent.Address)
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // All was read.
	for range 10 {  // More than a visitor's sessions in a minute.
		a, err := c.ask(visitor, status, http.StatusOK)
		if err != nil {
			return nil, err
		}
		if a.Status != status {
			continue
		}
		recorded, err := json.Marshal(a)
		if err != nil {
			return nil, fmt.Errorf("recording an answer: %w", err)
		}
		file := filepath.Join(b.dir, "answer.json")
		if err := os.WriteFile(file, recorded, 0o600); err != nil {
			return nil, fmt.Errorf("recording an answer: %w", err)
		}
		return launch(ctx, oneCore, b.yard, "-answer="+file)
	}
	return nil, errors.New("no answer has the status to record")
}
