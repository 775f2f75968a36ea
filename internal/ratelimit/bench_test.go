package ratelimit_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"docent/internal/firestore"
	"docent/internal/ratelimit"
	"docent/internal/testkit/testfirestore"
)

// BenchmarkKeyOf is what tells one visitor's bucket from another's.
func BenchmarkKeyOf(b *testing.B) {
	for _, address := range []string{"192.0.2.1", "::ffff:192.0.2.1", "2001:db8:1:2::1"} {
		b.Run(address, func(b *testing.B) {
			addr := netip.MustParseAddr(address)
			b.ReportAllocs()
			for b.Loop() {
				ratelimit.KeyOf(addr)
			}
		})
	}
}

// BenchmarkTake measures the time that the limiter adds to a request: admitted
// ones from an address each, and refused ones from one address. Refusals must
// cost the same whatever the store is.
func BenchmarkTake(b *testing.B) {
	stores := []struct {
		name string
		open func(b *testing.B) ratelimit.Store
	}{
		{"memory", func(*testing.B) ratelimit.Store { return nil }},
		{"firestore", func(b *testing.B) ratelimit.Store {
			b.Helper()
			client, err := firestore.Open(b.Context(), firestore.Options{
				Project: testfirestore.Project(), Database: "(default)", Emulator: testfirestore.Address(b),
			})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { client.Close() })
			store, err := client.Buckets("rate_limits", make([]byte, 32))
			if err != nil {
				b.Fatal(err)
			}
			return store
		}},
	}
	for _, s := range stores {
		b.Run("admitted/"+s.name, func(b *testing.B) {
			var n uint32
			l := limiter(func(o *ratelimit.Options) {
				o.Store, o.Ceiling = s.open(b), 1<<30
				// Another minute when this one's addresses are used up.
				o.Now = func() time.Time { return noon.Add(time.Duration(n/ratelimit.Capacity) * time.Minute) }
			})
			measure(b, l, true, func() netip.Addr { n++; return nth(n) })
		})
		b.Run("refused/"+s.name, func(b *testing.B) {
			l := limiter(func(o *ratelimit.Options) { o.Store = s.open(b) })
			for range 5 {
				if _, err := l.Take(b.Context(), ratelimit.KeyOf(nth(0))); err != nil {
					b.Fatal(err)
				}
			}
			measure(b, l, false, func() netip.Addr { return nth(0) })
		})
	}
}

func measure(b *testing.B, l *ratelimit.Limiter, granted bool, addr func() netip.Addr) {
	b.Helper()
	b.ReportAllocs()
	var took []time.Duration
	for b.Loop() {
		from := addr()
		began := time.Now()
		d, err := l.Take(b.Context(), ratelimit.KeyOf(from))
		took = append(took, time.Since(began))
		if err != nil || d.Granted != granted {
			b.Fatal(d, err)
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
}
