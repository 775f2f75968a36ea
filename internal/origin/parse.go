package origin

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// Parse reads a comma-separated list of origins, such as
// "https://docs.example.com, https://*.preview.example.com, http://localhost:*".
// It lowers upper case and ignores spaces around an entry. An entry may have one *,
// which matches one or more characters within one label of the host. As the port of
// a loopback host, it matches any port and also no port.
//
// The error unwraps to a []error with one fault for each bad entry. A fault says what
// would be right. It quotes the entry only if that is clearly an origin: anything
// else may be a key in the wrong variable. A List that is returned with an error
// allows no origin.
func Parse(list string) (List, error) {
	if strings.TrimSpace(list) == "" {
		return List{}, errors.Join(errors.New("the list is empty, so no page could use the assistant: " +
			"add the site's origin, such as https://docs.example.com"))
	}
	l := List{exact: make(map[string]struct{})}
	var faults []error
	for i, raw := range strings.Split(list, ",") {
		raw = strings.TrimSpace(raw)
		entry := strings.Map(lowerASCII, raw)
		switch err := check(entry); {
		case err == nil && strings.Contains(entry, "*"):
			l.patterns = append(l.patterns, compile(entry))
		case err == nil:
			l.exact[entry] = struct{}{}
		default:
			faults = append(faults, faultOf(i+1, raw, err))
		}
	}
	if len(faults) > 0 {
		return List{}, errors.Join(faults...)
	}
	slices.SortFunc(l.patterns, func(a, b pattern) int { return strings.Compare(a.text, b.text) })
	l.patterns = slices.Compact(l.patterns)
	return l, nil
}

// check returns what is wrong with a lower-cased entry. It accepts only the spelling
// that browsers send, because an entry in another spelling would never match.
func check(entry string) error {
	scheme, rest, hasScheme := strings.Cut(entry, "://")
	switch {
	case entry == "":
		return errors.New("it is empty: remove the extra comma")
	case strings.Contains(entry, "@"):
		return errors.New("remove the @ and everything before it: an origin has no user or password")
	case strings.ContainsFunc(entry, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return errors.New("remove the space or control character: only a comma separates two origins")
	case entry == "*" || rest == "*" || strings.HasPrefix(rest, "*:"):
		return errors.New("it would allow every page on the web: name the site, as in https://docs.example.com")
	case !hasScheme:
		return errors.New("start it with https:// or http://, as in https://docs.example.com")
	case strings.Contains(scheme, "*"):
		return errors.New("a * cannot be in the scheme: write https:// or http://")
	case scheme != "https" && scheme != "http":
		return errors.New("only https:// and http:// pages can use the assistant: start it with one of these")
	case strings.Count(entry, "*") > 1:
		return errors.New("an entry can have only one *: write out the other part")
	}
	if i := strings.IndexAny(rest, `/\?#`); i >= 0 {
		return advise("remove %q from the end: an origin has no path, query, fragment or final slash", rest[i:])
	}
	host, port, hasPort := rest, "", false
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, ']') {
		host, port, hasPort = rest[:i], rest[i+1:], true
	}
	if err := checkHost(host); err != nil || !hasPort {
		return err
	}
	switch {
	case port == "*" && loopback(host):
		return nil
	case port == "*":
		return errors.New("only a loopback host (localhost, 127.0.0.1, [::1]) may have any port: write out the port")
	case strings.Contains(port, "*"):
		return errors.New("a * must be the whole port, as in http://localhost:*")
	case !validPort(port):
		return errors.New("a port is a number from 1 to 65535 without a leading zero: correct it, or remove it and the colon")
	case port == defaultPort(scheme):
		return fmt.Errorf("remove :%s: browsers omit the default port", port)
	}
	return nil
}

func checkHost(host string) error {
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	last := host[strings.LastIndexByte(host, '.')+1:]
	switch {
	case host == "":
		return errors.New("the host is missing: add it, as in https://docs.example.com")
	case strings.ContainsAny(host, "[:]"):
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return errors.New("only an IPv6 address, without a zone or a *, can have colons and brackets, as in http://[::1]:8080")
		}
		if want := "[" + browserIPv6(addr) + "]"; host != want {
			return advise("write the address as browsers send it, %s", want)
		}
		return nil
	case strings.Contains(host, "*") && (strings.Contains(last, "*") || numeric(last)):
		return errors.New("a * cannot be in the last label of a host or in an IP address: write out that part")
	case numeric(last) && err != nil: // Browsers read 127.1, 0x7f.1 and 2130706433 as 127.0.0.1, and send that.
		return errors.New("a host that ends in a number is an IPv4 address: write it as four decimal numbers, as in 127.0.0.1")
	case numeric(last):
		return nil
	case last == "":
		return errors.New("remove the dot at the end of the host")
	case len(host) > maxHost:
		return fmt.Errorf("a host has at most %d characters: shorten it", maxHost)
	}
	for label := range strings.SplitSeq(host, ".") {
		if strings.ContainsFunc(label, func(r rune) bool { return r > unicode.MaxASCII }) {
			ascii, err := idna.Lookup.ToASCII(label)
			if err != nil { // One reason for an error is a *, which punycode cannot encode.
				return advise("%q is not ASCII: write the xn-- form that browsers send, without a *", label)
			}
			return advise("%q is not ASCII: write it as browsers send it, %q", label, ascii)
		}
		if !validLabel(strings.Replace(label, "*", "x", 1)) {
			return advise("%q cannot be part of a host: write 1 to "+strconv.Itoa(maxLabel)+
				" letters, digits and hyphens between dots, without a hyphen at either end", label)
		}
	}
	switch {
	// An accepted list is logged. No real top-level domain looks like a key.
	case credential(last):
		return errors.New("it looks like a key, which belongs in OPENAI_API_KEY: name the site here, as in https://docs.example.com")
	case strings.Contains(host, "*"):
		return checkWildcard(host)
	}
	return nil
}

// checkWildcard refuses a * that matches names which strangers can get: a * in a
// public suffix or directly under one.
//
// No rule of the public suffix list has a label that equals "*…", so the host can be
// looked up as it is. A rule such as *.ck makes the * part of the suffix. An
// exception such as !www.ck keeps the names below www.ck out of the suffix.
//
// A hosting platform gives out the names under a private suffix. A platform that
// joins a site's name and a branch's name with -- must keep the result apart from
// names that its users choose. But a stranger can choose my-site-evil.
func checkWildcard(host string) error {
	head, tail, _ := strings.Cut(host, "*")
	head = head[strings.LastIndexByte(head, '.')+1:]
	tail, parent, _ := strings.Cut(tail, ".")
	suffix, icann := publicsuffix.PublicSuffix(host)
	switch {
	case strings.HasPrefix(head, "xn--"):
		return errors.New("a * after xn-- would match unrelated names, because xn-- encodes a name: write out the label")
	case len(suffix) < len(parent): // The parent has an owner, who also owns the names below it.
		return nil
	case icann || !strings.Contains(suffix, "."):
		// Without a dot and not managed by ICANN: the list has no rule for it.
		return advise("anyone can register a name under %q: put the * below your own name, "+
			"as in *.my-site.%[1]s", parent)
	case !strings.Contains(head, "--") && !strings.Contains(tail, "--"):
		// A label does not start or end with -, so a -- has fixed text on the side that
		// is away from the *.
		return advise("anyone can take a name under %q: separate the * from your site's name with --, "+
			"as in my-site--*.%[1]s, or put it below that name", parent)
	}
	return nil
}

// browserIPv6 returns the URL standard's spelling of an address. It differs from
// netip's for an IPv4-mapped address.
func browserIPv6(addr netip.Addr) string {
	if b := addr.As16(); addr.Is4In6() {
		return fmt.Sprintf("::ffff:%x:%x", binary.BigEndian.Uint16(b[12:]), binary.BigEndian.Uint16(b[14:]))
	}
	return addr.String()
}

// loopback reports whether only the visitor's own machine can serve a page from
// host, on any port. Browsers resolve localhost and the names below it without the
// network.
func loopback(host string) bool {
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		return host == "localhost" || strings.HasSuffix(host, ".localhost")
	}
	return addr.IsLoopback() && !addr.Is4In6()
}

// numeric reports whether browsers read a host with this last label as an IPv4
// address. They also read hexadecimal numbers.
func numeric(label string) bool {
	hex, ok := strings.CutPrefix(label, "0x")
	return label != "" && (strings.Trim(label, "0123456789") == "" || ok && strings.Trim(hex, "0123456789abcdef") == "")
}

func validLabel(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= maxLabel && s[0] != '-' && s[len(s)-1] != '-'
}

// validPort does not use strconv, because its errors allocate.
func validPort(s string) bool {
	return s != "" && s[0] != '0' && strings.Trim(s, "0123456789") == "" && (len(s) < 5 || len(s) == 5 && s <= "65535")
}

// defaultPort returns the port that browsers omit from an origin of this scheme.
func defaultPort(scheme string) string {
	if strings.HasPrefix(scheme, "https") {
		return "443"
	}
	return "80"
}

// lowerASCII does not change other letters, so that check refuses them: the lower
// case of a Kelvin sign is an ASCII k.
func lowerASCII(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r - 'A' + 'a'
	}
	return r
}
