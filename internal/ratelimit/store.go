package ratelimit

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"time"
)

// Window is the length of a bucket: the wall-clock minute.
const Window = time.Minute

// Key is the part of a visitor's address that shares one limit: an IPv4
// address whole, an IPv6 address by its /64, since one subscriber commonly
// holds a whole /64 and could otherwise change address at every request.
type Key uint64

// ipv4 marks the keys of IPv4 addresses. It is the head of an IPv6 multicast
// prefix (ff00::/8, RFC 4291), which is never anybody's source address, so the
// two families cannot meet in one key.
const ipv4 Key = 0xffff_0000_0000_0000

// KeyOf returns the key of a valid address. IPv4-in-IPv6 counts as IPv4.
func KeyOf(addr netip.Addr) Key {
	if addr = addr.Unmap(); addr.Is4() {
		b := addr.As4()
		return ipv4 | Key(binary.BigEndian.Uint32(b[:]))
	}
	b := addr.As16()
	return Key(binary.BigEndian.Uint64(b[:8]))
}

// network returns the key's network: of an IPv4 address the /24, of an IPv6
// address the /48, which is what one customer of a provider commonly has.
func (k Key) network() Key {
	if k&ipv4 == ipv4 {
		return k &^ 0xff
	}
	return k &^ 0xffff
}

// Minute is a wall-clock minute, counted from the Unix epoch.
type Minute uint32

// MinuteOf returns the minute that holds t.
func MinuteOf(t time.Time) Minute { return Minute(t.Unix() / 60) } //nolint:gosec // Fits until the year 10136.

// End is the instant at which the minute's buckets end.
func (m Minute) End() time.Time { return time.Unix((int64(m)+1)*60, 0) }

// Bucket is what one key may use up in one minute.
type Bucket struct {
	Key    Key
	Minute Minute
}

// Ask is the one question a [Store] answers: grant up to N of these.
type Ask struct {
	// N is how many requests wait to be granted; at least 1.
	N int
	// Limit is the count that the bucket must not pass.
	Limit int
	// Seen says that this instance has counted in the bucket before, so that a
	// store which creates buckets can go straight to updating one.
	Seen bool
}

// Grant is a store's answer. Before+N is the bucket's count afterwards.
type Grant struct {
	// Before is the bucket's count before the ask, over all instances.
	Before int
	// N is how many were granted: 0 when the bucket was full.
	N int
}

// ErrContended is returned by a [Store] that is well but could not get at the
// bucket, because other instances were counting in it at this very instant.
// Nothing was granted.
var ErrContended = errors.New("bucket is contended by other instances")

// Store counts buckets. Implementations MUST answer each Ask atomically:
// however many ask at once, on however many instances, the grants of one
// bucket never add up to more than Limit. When they return an error, they may
// have counted what the caller then must not grant: a lost answer costs the
// visitor a grant, never Docent its limit.
//
// An error that is not [ErrContended] means that the store is down, unless it
// wraps context.DeadlineExceeded, as it MUST where the store gave no answer in
// time: then it is down only if it does not answer others either.
type Store interface {
	Grant(ctx context.Context, b Bucket, ask Ask) (Grant, error)
}
