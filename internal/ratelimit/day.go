package ratelimit

import (
	"context"
	"log/slog"
	"time"
)

const (
	// day is the window of the limits of a day. Days are those of UTC.
	day = 24 * time.Hour
	// networkFactor is how many times an address's answers its /48 gets, so that a
	// subscriber with many /64s does not have as many limits.
	networkFactor = 10
)

// Unlimited is a limit of a [Day] that is none.
const Unlimited = -1

// DayOptions configure a [Day]. All are required but Store.
type DayOptions struct {
	// PerAddress is what one address gets in a day, and its IPv6 /48 ten times as
	// much; 0 for nothing, or [Unlimited].
	PerAddress int
	// Site is what all addresses together get in a day; 0 for nothing, or [Unlimited].
	Site int
	// Store counts for all instances. Without one, this instance counts alone.
	Store Store
	// Deny refuses all requests while Store is down. Otherwise this instance counts
	// addresses on in memory, and gives what is left of its lease of the site's day
	// and then a tenth of that day.
	Deny bool
	// StoreTimeout bounds each call of Store, even if the caller leaves.
	StoreTimeout time.Duration
	// Log is told when the store fails and when it answers again, never a key.
	Log *slog.Logger
	// Now is the clock.
	Now func() time.Time
}

// Day limits what may be done in a day (UTC): by one address, by its IPv6 /48, and
// by all together. An address is checked first, so that one which is over its limit
// takes nothing from the site.
type Day struct {
	address, network *Limiter // Nil for no limit.
	site             *site    // Nil for no limit.
	breaker          *breaker // One for all three: they share a store. Nil without one.
}

// NewDay returns limits of a day of which this instance has granted nothing yet.
func NewDay(o DayOptions) *Day {
	d := &Day{}
	if o.Store != nil {
		d.breaker = &breaker{name: "answers", store: o.Store, timeout: o.StoreTimeout, log: o.Log, now: o.Now}
	}
	limiter := func(name string, limit int) *Limiter {
		return newLimiter(Options{Name: name, Limit: limit, Window: day, Deny: o.Deny, Log: o.Log, Now: o.Now}, d.breaker)
	}
	if o.PerAddress != Unlimited {
		d.address = limiter("answers-per-address", o.PerAddress)
		d.network = limiter("answers-per-network", o.PerAddress*networkFactor)
	}
	if o.Site != Unlimited {
		d.site = newSite(o, d.breaker)
	}
	return d
}

// StoreFailed tells the limits at the start that the store is down, so that the first
// visitors do not have to find out.
func (d *Day) StoreFailed(err error) { d.breaker.fail(era{}, err) }

// Refused returns the refusal of a key that is known to get nothing more today. It
// asks no store, so that whoever goes on asking costs nothing.
func (d *Day) Refused(key Key) (refused Decision, known bool) {
	if d.site != nil && d.site.usedUp() {
		return d.site.decision(BySite), true
	}
	if d.address == nil {
		return Decision{}, false
	}
	if b := d.address.bucket(key); d.address.usedUp(b) {
		return d.address.refuse(b, ByAddress), true
	}
	if b := d.network.bucket(key.network()); !key.isIPv4() && d.network.usedUp(b) {
		return d.network.refuse(b, ByNetwork), true
	}
	return Decision{}, false
}

// Take asks for one grant for the key. What one limit has granted and a later one
// refuses is given back. Its errors are those of [Limiter.Take].
func (d *Day) Take(ctx context.Context, key Key) (decision Decision, err error) {
	if refused, known := d.Refused(key); known {
		return refused, nil
	}
	var address, network Decision
	defer func() {
		if err != nil || !decision.Granted {
			d.network.Return(network)
			d.address.Return(address)
		}
	}()
	if d.address != nil {
		address, err = d.address.Take(ctx, key)
		if err != nil || !address.Granted {
			return address, err
		}
	}
	if d.network != nil && !key.isIPv4() {
		network, err = d.network.Take(ctx, key.network())
		if network.Refused == ByAddress {
			network.Refused = ByNetwork
		}
		if err != nil || !network.Granted {
			return network, err
		}
	}
	if d.site == nil {
		return Decision{Granted: true}, nil
	}
	return d.site.take(ctx)
}

// Drain gives back to the store what is left of the leases of the site's day, each
// to the day that it came from, and waits for that until ctx ends. From then on
// nothing is granted.
func (d *Day) Drain(ctx context.Context) {
	if d.site == nil || d.breaker == nil {
		return
	}
	drained := make(chan struct{})
	go func() {
		d.site.drain()
		close(drained)
	}()
	select {
	case <-drained:
	case <-ctx.Done():
	}
}
