//go:build linux

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	startRounds = 15
	// farAway is what is added to every remote call, to tell waiting from work.
	farAway = 20 * time.Millisecond
)

// outside is where the service finds what it depends on.
type outside struct{ store, secrets, openAI, scheme string }

// away returns the same a round trip of rtt further away.
func (o outside) away(ctx context.Context, rtt time.Duration) (outside, error) {
	for _, address := range []*string{&o.store, &o.secrets, &o.openAI} {
		var err error
		if *address, err = delayed(ctx, *address, rtt); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (o outside) upstream() []string {
	return []string{"OPENAI_BASE_URL=" + o.scheme + "://" + o.openAI + "/v1"}
}

func (o outside) all() []string { return join(o.upstream(), manager(o.secrets), firestore(o.store)) }

// coldStart measures the time from a process start to the first session. The
// steps of the start are measured by configuring one alone: what it takes beyond
// a start without any, added up, is the start done one step after another.
func (b *bench) coldStart(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	far, err := b.near.away(ctx, farAway)
	if err != nil {
		return err
	}
	for _, at := range []struct {
		name string
		outside
	}{{"", b.near}, {", calls +20 ms", far}} {
		took, err := b.starts(ctx, map[string][]string{
			"memory":    at.upstream(),
			"secrets":   join(at.upstream(), manager(at.secrets)),
			"firestore": join(at.upstream(), firestore(at.store)),
			"both":      at.all(),
			"hello":     nil,
		})
		if err != nil {
			return err
		}
		if at.outside == b.near {
			b.add(compared("cold start, memory store / ten-line server", took["memory"], took["hello"]).atMost(3))
			b.add(compared("cold start, Firestore and secrets / ten-line server", took["both"], took["hello"]))
		}
		b.add(compared("cold start, Firestore and secrets"+at.name+" / one after the other",
			took["both"], took["secrets"]+took["firestore"]-took["memory"]))
		b.add(compared("cold start, Firestore and secrets"+at.name+" / the slower of them alone",
			took["both"], max(took["secrets"], took["firestore"])).atMost(1.2))
	}
	return nil
}

func compared(what string, docent, yardstick time.Duration) row {
	return row{what: what, docent: ms(docent), yardstick: ms(yardstick), ratio: float64(docent) / float64(yardstick)}
}

// starts returns each variant's median over rounds in which all take turns.
func (b *bench) starts(ctx context.Context, variants map[string][]string) (map[string]time.Duration, error) {
	all := map[string][]time.Duration{}
	for range startRounds {
		for variant, env := range variants {
			took, err := b.firstSession(ctx, variant == "hello", env)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", variant, err)
			}
			all[variant] = append(all[variant], took)
		}
	}
	medians := map[string]time.Duration{}
	for variant, times := range all {
		medians[variant] = median(times)
	}
	return medians, nil
}

// firstSession starts the service, or the ten-line server, and asks it for one
// session.
func (b *bench) firstSession(ctx context.Context, hello bool, env []string) (time.Duration, error) {
	address := freeAddress()
	command := []string{b.binary}
	if hello {
		command = []string{b.hello, address}
	}
	p, err := b.launch(ctx, address, b.environment(address, env...), command...)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	conn, err := p.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close() //nolint:errcheck // All was read.
	b.visitors++
	err = ask(conn, session(nil, b.visitors))
	return time.Since(p.began), err
}

// paper is the least number of round trips that a visitor can wait for, where
// TLS 1.3 is between Docent and OpenAI and, as in these measurements, not before
// the emulator and the stand-in for Secret Manager.
//
//	cold: secrets and Firestore at once: connect, call      2
//	      Firestore's Commit                                1
//	      OpenAI: connect, TLS, call                        3
//	warm: Commit, call                                      2
//	warm, the second session of the minute: BeginTransaction,
//	      BatchGetDocuments, Commit, call                   4
const (
	paperCold, paperWarm, paperAgain = 6, 2, 4
)

// roundTrips counts what a visitor waits for: the time that each session takes
// longer where every call has farAway to go, in units of one such trip.
func (b *bench) roundTrips(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	trip, err := b.oneTrip(ctx)
	if err != nil {
		return err
	}
	trust, upstream, err := b.overTLS(ctx)
	if err != nil {
		return err
	}
	defer upstream.stop()
	near := b.near
	near.openAI, near.scheme = upstream.address, "https"
	far, err := near.away(ctx, farAway)
	if err != nil {
		return err
	}

	cold, err := b.starts(ctx, map[string][]string{"near": append(near.all(), trust), "far": append(far.all(), trust)})
	if err != nil {
		return err
	}
	first, again, err := b.visits(ctx, append(near.all(), trust))
	if err != nil {
		return err
	}
	farFirst, farAgain, err := b.visits(ctx, append(far.all(), trust))
	if err != nil {
		return err
	}
	for _, visitor := range []struct {
		name   string
		longer time.Duration
		paper  float64
	}{
		{"cold instance", cold["far"] - cold["near"], paperCold},
		{"warm instance", farFirst - first, paperWarm},
		{"warm, second session of the minute", farAgain - again, paperAgain},
	} {
		trips := float64(visitor.longer) / float64(trip)
		r := row{
			what:   "round trips, " + visitor.name + " / minimum on paper",
			docent: fmt.Sprintf("%.2f", trips), yardstick: fmt.Sprint(visitor.paper), ratio: trips / visitor.paper,
		}
		if visitor.name == "warm instance" {
			r.wanted, r.met = "exactly 2", math.Round(trips) == 2
		}
		b.add(r)
	}
	return nil
}

// oneTrip measures what one round trip of farAway takes through the delaying
// proxy, which wakes up a little late.
func (b *bench) oneTrip(ctx context.Context) (time.Duration, error) {
	address := freeAddress()
	hello, err := b.start(ctx, address, oneCore, b.hello, address)
	if err != nil {
		return 0, err
	}
	defer hello.stop()
	far, err := delayed(ctx, address, farAway)
	if err != nil {
		return 0, err
	}
	var trips [2][]time.Duration
	for i, address := range []string{address, far} {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return 0, fmt.Errorf("one trip: %w", err)
		}
		defer conn.Close() //nolint:errcheck // All was read.
		for range startRounds {
			began := time.Now()
			if err := ask(conn, session(nil, 0)); err != nil {
				return 0, err
			}
			trips[i] = append(trips[i], time.Since(began))
		}
	}
	return median(trips[1][1:]) - median(trips[0][1:]), nil
}

// visits returns how long new visitors wait on a warm instance, and how long
// when they ask again.
func (b *bench) visits(ctx context.Context, env []string) (first, again time.Duration, err error) {
	p, err := b.docent(ctx, env...)
	if err != nil {
		return 0, 0, err
	}
	defer p.stop()
	conn, err := p.dial(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close() //nolint:errcheck // All was read.
	var times [2][]time.Duration
	for n := range startRounds + 1 {
		b.visitors++
		for i := range times {
			began := time.Now()
			if err := ask(conn, session(nil, b.visitors)); err != nil {
				return 0, 0, err
			}
			if n > 0 { // The first one connects.
				times[i] = append(times[i], time.Since(began))
			}
		}
	}
	return median(times[0]), median(times[1]), nil
}

// overTLS starts a stand-in for OpenAI that speaks TLS, and returns the variable
// that has a Go program trust it.
func (b *bench) overTLS(ctx context.Context, args ...string) (trust string, upstream *process, err error) {
	cert, key, err := b.certificate()
	if err != nil {
		return "", nil, err
	}
	upstream, err = b.yardstick(ctx, nil, append(args, "-cert="+cert, "-key="+key)...)
	return "SSL_CERT_FILE=" + cert, upstream, err
}

// certificate makes one for 127.0.0.1 and returns the files with it and its key.
func (b *bench) certificate() (cert, key string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("generating a key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "bench"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return "", "", fmt.Errorf("signing a certificate: %w", err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", fmt.Errorf("encoding a key: %w", err)
	}
	cert, key = filepath.Join(b.dir, "cert.pem"), filepath.Join(b.dir, "key.pem")
	for file, block := range map[string]pem.Block{cert: {Type: "CERTIFICATE", Bytes: signed}, key: {Type: "PRIVATE KEY", Bytes: encoded}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(&block), 0o600); err != nil {
			return "", "", fmt.Errorf("writing %s: %w", file, err)
		}
	}
	return cert, key, nil
}
