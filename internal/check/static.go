package check

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"docent/internal/address"
	"docent/internal/config"
)

// configuration returns everything that is wrong with the environment.
func configuration(c config.Config, err error) Result {
	var faults config.Faults
	if errors.As(err, &faults) {
		var all []string
		for _, f := range faults {
			all = append(all, f.Variable+" "+f.Problem)
		}
		return verdict("", all, nil)
	}
	var notes []string
	if c.OnCloudRun && (c.FirestoreEmulator != "" || c.SecretManagerEmulator != "") {
		notes = append(notes, "FIRESTORE_EMULATOR_HOST or SECRET_MANAGER_EMULATOR_HOST is set on Cloud Run: the service depends on an emulator")
	}
	if u, err := url.Parse(c.BaseURL); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
		notes = append(notes, "OPENAI_BASE_URL is http: the API key travels unencrypted")
	}
	if c.RateLimit > max(1, c.InstanceLimit/4) {
		notes = append(notes, "RATE_LIMIT_PER_MINUTE is above a quarter of RATE_LIMIT_INSTANCE_PER_MINUTE, which is all that one network may use: raise the latter")
	}
	return verdict(fmt.Sprintf("%d sessions a minute for one address, %d for one instance, counted in %s",
		c.RateLimit, c.InstanceLimit, c.Store), nil, notes)
}

// previews is where hosting platforms put a site's name in the address of a
// preview. The fixed piece of an entry must be there, or it matches no preview of
// that site.
var previews = map[string]string{
	"web.app":     "SITE--*",
	"netlify.app": "*--SITE",
	"pages.dev":   "*.SITE",
}

// origins finds entries that are valid but cannot be what the operator meant.
func origins(c config.Config) Result {
	list := c.AllowedOrigins.String()
	var faults, notes []string
	onlyLoopback := true
	for entry := range strings.SplitSeq(list, ",") {
		scheme, rest, _ := strings.Cut(entry, "://")
		host := hostOf(rest)
		if isLoopback(host) {
			if c.OnCloudRun {
				notes = append(notes, entry+" allows pages that visitors serve on their own machines: useful in development, not needed here")
			}
			continue
		}
		onlyLoopback = false
		suffix, icann := publicsuffix.PublicSuffix(host)
		addr, notIP := netip.ParseAddr(strings.Trim(host, "[]"))
		public := notIP != nil && (icann || strings.Contains(suffix, ".")) || notIP == nil && !addr.IsPrivate() && !addr.IsLinkLocalUnicast()
		switch {
		case !public && notIP != nil:
			notes = append(notes, fmt.Sprintf("%s: no public name ends in %q, so only visitors in a private network can reach this page", entry, suffix))
		case public && scheme == "http":
			faults = append(faults, entry+": anyone between a visitor and that page can change it and use the assistant through it: "+
				"serve it over https and write https://"+rest)
		}
		if fault := unreachable(host, suffix); fault != "" {
			faults = append(faults, entry+": "+fault)
		}
	}
	if onlyLoopback && c.OnCloudRun {
		faults = append(faults, "ALLOWED_ORIGINS has only loopback hosts, so no visitor can use the assistant: add the origin of your docs site")
	}
	return verdict(strings.ReplaceAll(list, ",", ", "), faults, notes)
}

// unreachable returns why a pattern for previews matches none, if so.
func unreachable(host, suffix string) string {
	form, known := previews[suffix]
	label, _, below := strings.Cut(strings.TrimSuffix(host, "."+suffix), ".")
	if !known || below || !strings.Contains(label, "*") {
		return ""
	}
	head, tail, _ := strings.Cut(label, "*")
	if form == "SITE--*" && strings.HasSuffix(head, "--") || form == "*--SITE" && strings.HasPrefix(tail, "--") {
		return ""
	}
	return fmt.Sprintf("%s names previews %s.%[1]s, so this matches none of yours, but perhaps a stranger's", suffix, form)
}

// hostOf returns the host of an origin without its scheme.
func hostOf(rest string) string {
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, ']') {
		return rest[:i]
	}
	return rest
}

// isLoopback reports whether a host is the machine of the one who asks for it.
func isLoopback(host string) bool {
	host = strings.Trim(host, "[]")
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host).IsLoopback()
}

// The shortest prefixes that one operator's proxies can plausibly need.
const (
	minIPv4Bits = 8
	minIPv6Bits = 16
)

// trustedProxies finds settings that give all visitors one address, or let a
// visitor choose one.
func trustedProxies(c config.Config) Result {
	cloudRun := trusts(c.TrustedProxies, address.CloudRun())
	hosting := trusts(c.TrustedProxies, address.FirebaseHosting())
	var faults, notes []string
	if c.OnCloudRun && !cloudRun {
		faults = append(faults, "Cloud Run's own front end is not trusted, so all visitors share one address and its limit: add cloud-run to TRUSTED_PROXIES")
	}
	for _, p := range c.TrustedProxies {
		if p.Addr().Is4() && p.Bits() < minIPv4Bits || p.Addr().Is6() && p.Bits() < minIPv6Bits {
			faults = append(faults, p.String()+" trusts a large part of the internet, where anyone can forge an address: list only the networks of your proxies in TRUSTED_PROXIES")
		}
	}
	switch {
	case hosting:
		notes = append(notes, "firebase-hosting is right only behind a Firebase Hosting rewrite: it trusts Google's network, from which some services fetch for their users, "+
			"who could then forge an address (RATE_LIMIT_INSTANCE_PER_MINUTE bounds what that can cost)")
	case c.OnCloudRun:
		notes = append(notes, "behind a Firebase Hosting rewrite add firebase-hosting, behind a load balancer its address: otherwise all visitors who come through it share one limit")
	case len(c.TrustedProxies) == 0:
		notes = append(notes, "right if visitors connect to this process directly; behind a proxy they all share one limit until TRUSTED_PROXIES has its network")
	}
	if cloudRun && !c.OnCloudRun {
		notes = append(notes, "cloud-run is trusted, but this is not Cloud Run")
	}
	return verdict(describe(c.TrustedProxies, cloudRun, hosting), faults, notes)
}

// trusts reports whether the networks of a preset are all among those trusted.
func trusts(trusted, preset address.Proxies) bool {
	return !slices.ContainsFunc(preset, func(p netip.Prefix) bool { return !trusted.Covers(p) })
}

// describe names presets as the operator does.
func describe(trusted address.Proxies, cloudRun, hosting bool) string {
	var names []string
	var preset address.Proxies
	if cloudRun {
		names, preset = append(names, "cloud-run"), append(preset, address.CloudRun()...)
	}
	if hosting {
		names, preset = append(names, "firebase-hosting"), append(preset, address.FirebaseHosting()...)
	}
	for _, p := range trusted {
		if !slices.Contains(preset, p) {
			names = append(names, p.String())
		}
	}
	if len(names) == 0 {
		return "none: a visitor's address is the peer's"
	}
	return strings.Join(names, ", ")
}
