//go:build linux

package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

const (
	concurrent    = 256 // containerConcurrency in service.yaml.
	slow          = 500 * time.Millisecond
	sessionsFor   = 8 * time.Second
	attackers     = 1_000_000
	attackedFor   = time.Minute
	attackAtMost  = 3 * time.Minute
	yardstickTime = 10 * time.Second
)

// memory measures what is resident: the peak, but at rest.
func (b *bench) memory(ctx context.Context) error {
	parts := join(oneCore, b.near.all())
	if err := b.idle(ctx, parts); err != nil {
		return err
	}
	for _, protocol := range []struct{ name, flag string }{{"256 TLS connections", "-http1=true"}, {"HTTP/2", "-http1=false"}} {
		if err := b.underSessions(ctx, parts, protocol.name, "-delay="+slow.String(), protocol.flag); err != nil {
			return err
		}
	}
	return b.underAttack(ctx, parts)
}

func (b *bench) idle(ctx context.Context, env []string) error {
	docent, err := b.docent(ctx, env...)
	if err != nil {
		return err
	}
	defer docent.stop()
	address := freeAddress()
	hello, err := b.start(ctx, address, oneCore, b.hello, address)
	if err != nil {
		return err
	}
	defer hello.stop()
	time.Sleep(2 * time.Second)
	b.add(resident("resident at rest / ten-line server", docent.status("VmRSS"), hello.status("VmRSS")))
	return nil
}

// underSessions has as many visitors at a time as Cloud Run sends, each waiting
// for an upstream that takes its time, over TLS as OpenAI's is.
func (b *bench) underSessions(ctx context.Context, env []string, protocol string, upstreamArgs ...string) error {
	trust, upstream, err := b.overTLS(ctx, upstreamArgs...)
	if err != nil {
		return err
	}
	defer upstream.stop()
	base := "https://" + upstream.address
	docent, err := b.docent(ctx, join(env, []string{"OPENAI_BASE_URL=" + base + "/v1", trust})...)
	if err != nil {
		return err
	}
	defer docent.stop()
	proxy, err := b.yardstick(ctx, append(oneCore, trust), "-proxy="+base)
	if err != nil {
		return err
	}
	defer proxy.stop()
	for _, server := range []*process{docent, proxy} {
		turn, cancel := context.WithTimeout(ctx, sessionsFor)
		_, err := load{address: server.address, conns: concurrent, request: session, allowed: []int{http.StatusOK}, patient: true}.run(turn)
		cancel()
		if err != nil {
			return err
		}
	}
	what := fmt.Sprintf("resident, %d sessions over %s / reverse proxy", concurrent, protocol)
	b.add(resident(what, docent.status("VmHWM"), proxy.status("VmHWM")).within(docent.status("VmHWM"), 64))
	return nil
}

// underAttack has a million addresses ask for sessions, with the ceiling that
// the service has by default.
func (b *bench) underAttack(ctx context.Context, env []string) error {
	docent, err := b.docent(ctx, join(env, []string{"RATE_LIMIT_INSTANCE_PER_MINUTE=600"})...)
	if err != nil {
		return err
	}
	defer docent.stop()
	began := time.Now()
	attack := load{
		address: docent.address, conns: concurrent,
		request: func(buf []byte, n uint32) []byte { return session(buf, n%attackers) },
		allowed: []int{http.StatusOK, http.StatusTooManyRequests, http.StatusServiceUnavailable},
		enough:  func(n int) bool { return n > attackers && time.Since(began) > attackedFor },
	}
	turn, cancel := context.WithTimeout(ctx, attackAtMost)
	defer cancel()
	r, err := attack.run(turn)
	if err != nil {
		return err
	}
	if r.answered < attackers {
		return fmt.Errorf("only %d of %d addresses were answered in %s", r.answered, attackers, r.took)
	}
	file, err := b.record(ctx, docent, attack.request, http.StatusServiceUnavailable)
	if err != nil {
		return err
	}
	yard, err := b.yardstick(ctx, oneCore, "-answer="+file)
	if err != nil {
		return err
	}
	defer yard.stop()
	attack.address, attack.enough = yard.address, nil
	turn, cancel = context.WithTimeout(ctx, yardstickTime)
	defer cancel()
	if _, err = attack.run(turn); err != nil {
		return err
	}
	b.add(resident(fmt.Sprintf("resident, refusing a million addresses (%.0f/s) / bare chi handler", float64(r.answered)/r.took.Seconds()),
		docent.status("VmHWM"), yard.status("VmHWM")).within(docent.status("VmHWM"), 96))
	return nil
}

func resident(what string, docent, yardstick float64) row {
	return row{what: what, docent: mib(docent), yardstick: mib(yardstick), ratio: docent / yardstick}
}

// within sets a row's target for an amount of memory.
func (r row) within(used, limit float64) row {
	r.wanted, r.met = "≤ "+mib(limit), used <= limit
	return r
}
