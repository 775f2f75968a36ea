package ratelimit

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"time"
)

// Key names who shares one limit. [KeyOf] makes the key of an address.
type Key uint64

// ipv4 marks the keys of IPv4 addresses. It is the head of an IPv6 multicast
// prefix (ff00::/8, RFC 4291), which is never a source address, so an IPv4 and an
// IPv6 address cannot have the same key.
const ipv4 Key = 0xffff_0000_0000_0000

// KeyOf returns the key of a valid address: an IPv4 address counts whole, an IPv6
// address by its /64, since one subscriber commonly has a whole /64 and could
// otherwise change address at every request. IPv4-in-IPv6 counts as IPv4.
func KeyOf(addr netip.Addr) Key {
	if addr = addr.Unmap(); addr.Is4() {
		b := addr.As4()
		return ipv4 | Key(binary.BigEndian.Uint32(b[:]))
	}
	b := addr.As16()
	return Key(binary.BigEndian.Uint64(b[:8]))
}

// isIPv4 reports whether the key is that of an IPv4 address.
func (k Key) isIPv4() bool { return k&ipv4 == ipv4 }

// network returns the key's network: the /24 of an IPv4 address, and of an IPv6
// address the /48, the most that one site is commonly given (RFC 6177).
func (k Key) network() Key {
	if k.isIPv4() {
		return k &^ 0xff
	}
	return k &^ 0xffff
}

// Window is one stretch of wall-clock time. Windows of one length follow each
// other without a gap, counted from the Unix epoch: those of a minute begin with
// the minute, those of a day with the day in UTC.
type Window struct {
	// Length is at least a second.
	Length time.Duration
	// Index is 0 for the window that began at the epoch.
	Index uint32
}

// WindowOf returns the window of a length that holds t.
func WindowOf(t time.Time, length time.Duration) Window {
	return Window{Length: length, Index: uint32(t.Unix() / int64(length/time.Second))} //nolint:gosec // Fits until the year 2106 even in seconds.
}

// End is the instant at which the window ends.
func (w Window) End() time.Time {
	return time.Unix((int64(w.Index)+1)*int64(w.Length/time.Second), 0)
}

// Bucket is what one key may use in one window of one limiter.
type Bucket struct {
	// Name is the limiter's. Limiters of different names share no bucket.
	Name   string
	Key    Key
	Window Window
}

// Ask is the one question that a [Store] answers: grant up to N of these.
type Ask struct {
	// N is how many requests wait to be granted; at least 1.
	N int
	// Limit is the count that the bucket must not exceed.
	Limit int
	// Seen says that this instance has counted in the bucket before. A store that
	// creates buckets can then update this one without trying to create it.
	Seen bool
}

// From returns what the question gets from a bucket that holds before.
func (a Ask) From(before int) Grant {
	return Grant{Before: before, N: max(0, min(a.N, a.Limit-before))}
}

// Grant is a store's answer. Before+N is the bucket's count afterwards.
type Grant struct {
	// Before is the bucket's count before the question, over all instances.
	Before int
	// N is how many were granted: 0 when the bucket was full.
	N int
}

// ErrContended is returned by a [Store] that is up but could not get at the
// bucket, because other instances were counting in it at that instant. Nothing
// was granted.
var ErrContended = errors.New("bucket is contended by other instances")

// Store counts buckets. Implementations MUST answer each Ask atomically: however
// many ask at once, on however many instances, the grants of one bucket never add
// up to more than Limit.
//
// When they return an error, they may have counted what the caller then must not
// grant: a lost answer costs the visitor a grant, and never raises the limit.
//
// An error other than [ErrContended] means that the store is down, unless it
// wraps context.DeadlineExceeded, as it MUST where the store gave no answer in
// time: then the store is down only if it does not answer others either.
type Store interface {
	Grant(ctx context.Context, b Bucket, ask Ask) (Grant, error)
	// Return takes back n that were granted from a bucket and not used, so that
	// others can have them. A bucket that holds fewer is empty afterwards. If it
	// fails, the grants may stay counted.
	Return(ctx context.Context, b Bucket, n int) error
}
