//go:build linux

package main

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"time"

	"docent/internal/process"
)

const (
	startRounds = 15
	// farAway is what is added to every call, to tell waiting from work.
	farAway = 20 * time.Millisecond
)

// start measures what a visitor waits for: the start of an instance, and the calls
// of a session on one that is warm.
func (b *bench) start(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	far := b.near
	for _, address := range []*string{&far.store, &far.secrets, &far.openAI} {
		var err error
		if *address, err = delayed(ctx, *address, farAway); err != nil {
			return err
		}
	}
	if err := b.coldStart(ctx, far); err != nil {
		return err
	}
	return b.roundTrips(ctx, far)
}

// coldStart measures the time from the start of a process to the first session.
func (b *bench) coldStart(ctx context.Context, far outside) error {
	const hello = "hello"
	variants := map[string][][]string{
		"memory":        {b.near.upstream()},
		"secrets":       {b.near.upstream(), b.near.manager()},
		"firestore":     {b.near.upstream(), b.near.firestore()},
		"both":          {b.near.all()},
		"far secrets":   {far.upstream(), far.manager()},
		"far firestore": {far.upstream(), far.firestore()},
		"far both":      {far.all()},
		hello:           nil,
	}
	all := map[string][]time.Duration{}
	for range startRounds {
		for variant, env := range variants {
			took, err := b.firstSession(ctx, variant == hello, env)
			if err != nil {
				return fmt.Errorf("%s: %w", variant, err)
			}
			all[variant] = append(all[variant], took)
		}
	}
	took := map[string]time.Duration{}
	for variant, times := range all {
		took[variant] = median(times)
	}
	b.add(compared("cold start, memory store / ten-line server", took["memory"], took[hello], 3))
	b.add(compared("cold start, Firestore and secrets / the slower of them alone",
		took["both"], max(took["secrets"], took["firestore"]), 1.2))
	b.add(compared("cold start, Firestore and secrets, calls +20 ms / the slower of them alone",
		took["far both"], max(took["far secrets"], took["far firestore"]), 1.2))
	return nil
}

// compared makes a row of times, with the highest ratio that meets the target.
func compared(what string, docent, yardstick time.Duration, target float64) row {
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
	ratio := float64(docent) / float64(yardstick)
	return row{what, ms(docent), ms(yardstick), ratio, fmt.Sprintf("≤ %.2f", target), ratio <= target}
}

// firstSession starts the service, or the ten-line server, and asks it for a
// session.
func (b *bench) firstSession(ctx context.Context, hello bool, env [][]string) (time.Duration, error) {
	began := time.Now()
	start := func() (*process.Process, error) { return b.docent(ctx, env...) }
	if hello {
		start = func() (*process.Process, error) { return launch(ctx, nil, b.hello) }
	}
	p, err := start()
	if err != nil {
		return 0, err
	}
	defer stop(p)
	c, err := dial(ctx, p.Address)
	if err != nil {
		return 0, err
	}
	defer c.Close() //nolint:errcheck // All was read.
	b.visitors++
	_, err = c.ask(b.visitors, http.StatusOK)
	return time.Since(began), err
}

// roundTrips counts the calls that a visitor on a warm instance waits for: how
// much longer a session takes where every call takes farAway longer. There should
// be two, Firestore's Commit and OpenAI's.
func (b *bench) roundTrips(ctx context.Context, far outside) error {
	near, err := b.visits(ctx, b.near)
	if err != nil {
		return err
	}
	distant, err := b.visits(ctx, far)
	if err != nil {
		return err
	}
	const calls = 2
	trips := float64(distant-near) / float64(farAway)
	b.add(row{
		"round trips, warm instance / minimum on paper", fmt.Sprintf("%.2f", trips), fmt.Sprint(calls), trips / calls,
		"exactly 2", math.Round(trips) == calls,
	})
	return nil
}

// visits returns how long new visitors wait on a warm instance.
func (b *bench) visits(ctx context.Context, where outside) (time.Duration, error) {
	p, err := b.docent(ctx, where.all())
	if err != nil {
		return 0, err
	}
	defer stop(p)
	c, err := dial(ctx, p.Address)
	if err != nil {
		return 0, err
	}
	defer c.Close() //nolint:errcheck // All was read.
	var times []time.Duration
	for range startRounds + 1 {
		b.visitors++
		began := time.Now()
		if _, err := c.ask(b.visitors, http.StatusOK); err != nil {
			return 0, err
		}
		times = append(times, time.Since(began))
	}
	return median(times[1:]), nil // The first one connects.
}
