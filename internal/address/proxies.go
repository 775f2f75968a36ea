// Package address finds out which client is asking: the visitor's address, behind
// the proxies that the operator trusts.
package address

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Proxies are the networks of trusted hops.
type Proxies []netip.Prefix

// CloudRun returns the preset cloud-run: the peer of a container on Cloud Run
// is always link-local.
func CloudRun() Proxies { return Proxies{netip.MustParsePrefix("169.254.0.0/16")} }

// FirebaseHosting returns the preset firebase-hosting: Google's own
// infrastructure, from where a rewrite is forwarded. It is goog.json minus
// cloud.json of September 2026, less crawlers and load balancers.
func FirebaseHosting() Proxies {
	var p Proxies
	for _, s := range []string{
		"64.233.160.0/19", "66.102.0.0/20", "72.14.192.0/18", "74.125.0.0/16", "108.177.0.0/17", "142.250.0.0/15",
		"172.217.0.0/16", "172.253.0.0/16", "173.194.0.0/16", "192.178.0.0/15", "209.85.128.0/17", "216.58.192.0/19",
		"216.239.32.0/19", "2001:4860::/32", "2404:6800::/32", "2607:f8b0::/32", "2800:3f0::/32", "2a00:1450::/32",
		"2c0f:fb50::/32",
	} {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

// Covers reports whether all of a network is trusted.
func (p Proxies) Covers(network netip.Prefix) bool {
	return slices.ContainsFunc(p, func(t netip.Prefix) bool { return t.Contains(network.Addr()) && t.Bits() <= network.Bits() })
}

// FrontEnds returns Google's front ends that are not trusted. One of them as a
// visitor's address means that the trusted proxies lack something.
func (p Proxies) FrontEnds() Proxies { return slices.DeleteFunc(FirebaseHosting(), p.Covers) }

// WithoutFirebaseHosting returns the proxies without the networks of that preset,
// which a list may also name one by one. What does not come through Firebase Hosting
// must not trust them: whoever relays through Google's services could forge
// addresses.
func (p Proxies) WithoutFirebaseHosting() Proxies {
	preset := FirebaseHosting()
	return slices.DeleteFunc(slices.Clone(p), func(network netip.Prefix) bool { return slices.Contains(preset, network) })
}

// Contains reports whether an address is in one of the networks.
func (p Proxies) Contains(addr netip.Addr) bool {
	return slices.ContainsFunc(p, func(network netip.Prefix) bool { return network.Contains(addr) })
}

// UnmarshalText parses a list of CIDRs and presets. Its error joins one for
// each entry that is not right.
func (p *Proxies) UnmarshalText(text []byte) error {
	var all Proxies
	var faults []error
	for i, entry := range strings.Split(string(text), ",") {
		switch entry = strings.TrimSpace(entry); entry {
		case "cloud-run":
			all = append(all, CloudRun()...)
		case "firebase-hosting":
			all = append(all, FirebaseHosting()...)
		default:
			prefix, err := parseProxy(entry)
			if err != nil {
				faults = append(faults, fmt.Errorf("entry %d %w", i+1, err))
			}
			all = append(all, prefix)
		}
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	*p = all
	return nil
}

func parseProxy(entry string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(entry); err == nil {
		return netip.Prefix{}, fmt.Errorf("is an address, but must be a network: write %s/%d", addr, addr.BitLen())
	}
	prefix, err := netip.ParsePrefix(entry)
	switch {
	case err != nil:
		return netip.Prefix{}, errors.New("is neither a CIDR such as 10.0.0.0/8, nor cloud-run, nor firebase-hosting")
	case prefix.Bits() == 0:
		return netip.Prefix{}, errors.New("trusts everybody, which makes no address a visitor's: name the networks of your proxies")
	case prefix.Addr().Is4In6():
		return netip.Prefix{}, errors.New("is IPv4-in-IPv6, which never matches: write it as IPv4")
	}
	return prefix.Masked(), nil
}
