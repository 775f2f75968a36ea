//go:build linux

package main

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"docent/internal/process"
)

const (
	concurrent  = 256 // containerConcurrency in service.yaml.
	slow        = 500 * time.Millisecond
	sessionsFor = 8 * time.Second
	attackers   = 1_000_000
	attackedFor = time.Minute // At least, so that the limiter's minute changes.
	attackTurn  = 10 * time.Second
)

// memory measures the most that was resident.
func (b *bench) memory(ctx context.Context) error {
	if err := b.underSessions(ctx, "256 TLS connections", false); err != nil {
		return err
	}
	if err := b.underSessions(ctx, "HTTP/2", true); err != nil {
		return err
	}
	return b.underAttack(ctx)
}

// underSessions has as many visitors at a time as Cloud Run sends, each waiting
// for an upstream that is slow, over TLS as OpenAI's is.
func (b *bench) underSessions(ctx context.Context, protocol string, http2 bool) error {
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(slow)
		openAI(w, r)
	}))
	upstream.EnableHTTP2 = http2
	upstream.StartTLS()
	defer upstream.Close()
	cert := filepath.Join(b.dir, "cert.pem")
	if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: upstream.Certificate().Raw}), 0o600); err != nil {
		return fmt.Errorf("writing the certificate: %w", err)
	}
	trust := []string{"SSL_CERT_FILE=" + cert}

	docent, err := b.docent(ctx, oneCore, b.near.all(), trust, []string{"OPENAI_BASE_URL=" + upstream.URL + "/v1"})
	if err != nil {
		return err
	}
	defer stop(docent)
	proxy, err := launch(ctx, append(trust, oneCore...), b.yard, "-proxy="+upstream.URL)
	if err != nil {
		return err
	}
	defer stop(proxy)
	for _, server := range []*process.Process{docent, proxy} {
		sessions := load{address: server.Address, conns: concurrent, first: b.visitors, visitors: everyone, allowed: []int{http.StatusOK}}
		answered, err := sessions.run(ctx, sessionsFor)
		if err != nil {
			return err
		}
		b.visitors += uint32(answered) //nolint:gosec // Far below 2^24.
	}
	b.add(resident(fmt.Sprintf("resident, %d sessions over %s / reverse proxy", concurrent, protocol), docent, proxy, 64))
	return nil
}

// underAttack has a million addresses ask for sessions, with the ceiling that the
// service has by default.
func (b *bench) underAttack(ctx context.Context) error {
	docent, err := b.docent(ctx, oneCore, b.near.all(), []string{"RATE_LIMIT_INSTANCE_PER_MINUTE=600"})
	if err != nil {
		return err
	}
	defer stop(docent)
	attack := load{
		address: docent.Address, conns: concurrent, visitors: attackers,
		allowed: []int{http.StatusOK, http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}
	began, total := time.Now(), 0
	for ctx.Err() == nil && (total < attackers || time.Since(began) < attackedFor) {
		answered, err := attack.run(ctx, attackTurn)
		if err != nil {
			return err
		}
		total += answered
		attack.first += uint32(answered) //nolint:gosec // Far below 2^32.
	}
	took := time.Since(began)
	yard, err := b.replayer(ctx, docent, attack.first, http.StatusServiceUnavailable)
	if err != nil {
		return err
	}
	defer stop(yard)
	attack.address = yard.Address
	if _, err := attack.run(ctx, attackTurn); err != nil {
		return err
	}
	what := fmt.Sprintf("resident, refusing a million addresses (%.0f/s) / bare chi handler", float64(total)/took.Seconds())
	b.add(resident(what, docent, yard, 96))
	return nil
}

// resident makes a row of the peaks of both, with the most MiB that meet the
// target.
func resident(what string, docent, yardstick *process.Process, target float64) row {
	mib := func(v float64) string { return fmt.Sprintf("%.1f MiB", v) }
	used, least := status(docent, "VmHWM"), status(yardstick, "VmHWM")
	return row{what, mib(used), mib(least), used / least, "≤ " + mib(target), used <= target}
}
