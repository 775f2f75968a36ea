// Package origin is the allow-list of the pages that may use the assistant.
//
// The Origin header is the one thing in a request that a page cannot forge in
// its visitor's browser. It proves nothing about a client that is no browser:
// those are the rate limit's business. What it stops is a stranger's page that
// spends this site's money through the browsers of its own visitors, each at an
// address of their own. So an entry must never be wider than its author thinks.
// [Parse] refuses what would admit anybody who registers a name or opens a free
// project, and what no browser ever sends. [List.Allows] compares bytes and
// normalises nothing: every normalisation is one more spelling to get wrong.
package origin

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

const (
	maxHost  = 253 // bytes of a DNS name as text, without a final dot (RFC 1035, 2.3.4)
	maxLabel = 63  // bytes of one of its labels
	maxLen   = len("https://") + maxHost + len(":65535")
)

// List is the set of origins that may use the assistant. The zero value allows
// nobody. A List never changes, so many goroutines may use one.
type List struct {
	exact    map[string]struct{}
	patterns []pattern // in the order of their text, so that equal lists are equal values
}

// Parse reads a comma-separated list of origins, such as
// "https://docs.example.com, https://*.preview.example.com, http://localhost:*".
// Upper case is lowered, and spaces around an entry do not count. One * in an
// entry stands for one or more characters of one label of the host or, where
// the host is a loopback one, for any port and none.
//
// The error unwraps to a []error of one fault per bad entry, each saying what
// would be right. A fault quotes its entry only where that is plainly an origin:
// anything else may be a key in the wrong variable. With the error comes a List
// that allows nobody.
func Parse(list string) (List, error) {
	if strings.TrimSpace(list) == "" {
		return List{}, errors.Join(errors.New("the list is empty, so nobody could use the assistant: " +
			"name the site's origin, such as https://docs.example.com"))
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

// Allows reports whether origin, the value of an Origin header, is on the list,
// byte for byte as browsers spell origins: upper case, a default port, a final
// dot or a second value never match. It does not allocate, and a longer origin
// does not make it slower.
func (l List) Allows(origin string) bool {
	if len(origin) > maxLen { // Before the map, whose hash would read all of it.
		return false
	}
	if _, ok := l.exact[origin]; ok {
		return true
	}
	for i := range l.patterns {
		if l.patterns[i].matches(origin) {
			return true
		}
	}
	return false
}

// String returns the list in canonical form, lower-case, sorted and without
// repetitions, as Parse reads it.
func (l List) String() string {
	entries := slices.Collect(maps.Keys(l.exact))
	for _, p := range l.patterns {
		entries = append(entries, p.text)
	}
	slices.Sort(entries)
	return strings.Join(entries, ",")
}

var shape = regexp.MustCompile(`^https?://([0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)

// WellFormed reports whether origin is http or https, a host, perhaps a port,
// and nothing else, so that a refused one may be logged: there is no room in it
// for a password, a query or a line break. A spelling that browsers do not use
// passes, because the capital or the default port may be just what an operator
// is looking for.
func WellFormed(origin string) bool {
	return len(origin) <= maxLen && shape.MatchString(origin)
}

// pattern is an entry with a *, cut into what matches compares.
type pattern struct {
	text        string
	head, tail  string // what stands before and after the *; before a port's, without the colon
	port        bool   // the * is the port
	left, right int    // bytes of the origin before and after the label that has the *
	max         int    // bytes of the origin whose host is as long as a host can be
}

// compile cuts an entry that check has passed.
func compile(entry string) pattern {
	head, tail, _ := strings.Cut(entry, "*")
	if head, ok := strings.CutSuffix(head, ":"); ok {
		return pattern{text: entry, head: head, port: true}
	}
	port := len(tail) - strings.IndexByte(tail+":", ':') // Its bytes, with the colon.
	return pattern{
		text: entry, head: head, tail: tail,
		left:  strings.LastIndexAny(head, "/.") + 1,
		right: len(tail) - strings.IndexByte(tail, '.'), // A * is never in the last label.
		max:   strings.LastIndexByte(head, '/') + 1 + maxHost + port,
	}
}

// matches leaves nothing to interpretation: all of origin but one label, or the
// port, equals the entry, and no character of the rest could end a label, the
// host or the port.
func (p *pattern) matches(origin string) bool {
	if p.port {
		port, ok := strings.CutPrefix(origin, p.head)
		return ok && (port == "" || port[0] == ':' && validPort(port[1:]) && port[1:] != defaultPort(p.head))
	}
	if len(origin) <= len(p.head)+len(p.tail) || len(origin) > p.max ||
		!strings.HasPrefix(origin, p.head) || !strings.HasSuffix(origin, p.tail) {
		return false
	}
	// A fixed piece means nothing in punycode: xn--my-site is not a site of
	// *--my-site but whatever name that encodes, which may be anybody's.
	label := origin[p.left : len(origin)-p.right]
	whole := p.left == len(p.head) && p.right == len(p.tail)
	return validLabel(label) && (whole || !strings.HasPrefix(label, "xn--"))
}

// check says what is wrong with a lower-cased entry. What it passes is spelled
// as browsers spell it: anything else would stand on the list and never match.
func check(entry string) error {
	scheme, rest, hasScheme := strings.Cut(entry, "://")
	switch {
	case entry == "":
		return errors.New("it is empty: drop the comma too many")
	case strings.Contains(entry, "@"):
		return errors.New("drop the @ and what stands before it: an origin has no user or password")
	case strings.ContainsFunc(entry, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return errors.New("drop the space or control character in it: what parts two origins is a comma")
	case entry == "*" || rest == "*" || strings.HasPrefix(rest, "*:"):
		return errors.New("it would admit every page there is: name the site, as in https://docs.example.com")
	case !hasScheme:
		return errors.New("begin it with https:// or http://, as in https://docs.example.com")
	case strings.Contains(scheme, "*"):
		return errors.New("a * cannot be in the scheme: write https:// or http:// out")
	case scheme != "https" && scheme != "http":
		return errors.New("only https:// and http:// pages can use the assistant: begin it with one of them")
	case strings.Count(entry, "*") > 1:
		return errors.New("only one * can be in an entry: write the other part out")
	}
	if i := strings.IndexAny(rest, `/\?#`); i >= 0 {
		return advise("drop %q at its end: an origin has no path, query or fragment, nor a slash", rest[i:])
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
		return errors.New("only a loopback host (localhost, 127.0.0.1, [::1]) may have any port: write the port out")
	case strings.Contains(port, "*"):
		return errors.New("a * must be the whole port, as in http://localhost:*")
	case !validPort(port):
		return errors.New("a port is a number from 1 to 65535 without a leading zero: correct it, or drop the colon too")
	case port == defaultPort(scheme):
		return fmt.Errorf("drop :%s: browsers leave the default port out", port)
	}
	return nil
}

func checkHost(host string) error {
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	last := host[strings.LastIndexByte(host, '.')+1:]
	switch {
	case host == "":
		return errors.New("the host is missing: name it, as in https://docs.example.com")
	case strings.ContainsAny(host, "[:]"):
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return errors.New("colons and brackets are for an IPv6 address without zone or *, as in http://[::1]:8080")
		}
		if want := "[" + browserIPv6(addr) + "]"; host != want {
			return advise("write the address as browsers do, %s", want)
		}
		return nil
	case strings.Contains(host, "*") && (strings.Contains(last, "*") || numeric(last)):
		return errors.New("a * cannot be in the last label of a host, nor in an IP address: write that out")
	case numeric(last) && err != nil: // Browsers take 127.1, 0x7f.1 and 2130706433 for 127.0.0.1, and send that.
		return errors.New("a host that ends in a number is an IPv4 address: write four decimal numbers, as in 127.0.0.1")
	case numeric(last):
		return nil
	case last == "":
		return errors.New("drop the dot at the host's end")
	case len(host) > maxHost:
		return fmt.Errorf("a host has at most %d characters: shorten it", maxHost)
	}
	for label := range strings.SplitSeq(host, ".") {
		if strings.ContainsFunc(label, func(r rune) bool { return r > unicode.MaxASCII }) {
			ascii, err := idna.Lookup.ToASCII(label)
			if err != nil { // A * is among the reasons: punycode has no place for one.
				return advise("%q is not ASCII: write the xn-- form that browsers send, without a *", label)
			}
			return advise("%q is not ASCII: write it as browsers send it, %q", label, ascii)
		}
		if !validLabel(strings.Replace(label, "*", "x", 1)) {
			return advise("%q cannot be part of a host: between dots belong 1 to "+strconv.Itoa(maxLabel)+
				" letters, digits and hyphens, no hyphen at either end", label)
		}
	}
	switch {
	// A list that is accepted is logged. No site's last label looks like a key.
	case credential(last):
		return errors.New("it looks like a key: OPENAI_API_KEY is the variable for one; name the site here, as in https://docs.example.com")
	case strings.Contains(host, "*"):
		return checkWildcard(host)
	}
	return nil
}

// checkWildcard refuses a * where strangers can make a name that it matches: in
// a public suffix or directly under one.
//
// No rule of the public suffix list has a label that equals "*…", so the host
// can be looked up as it is. A rule like *.ck takes the * into the suffix, and
// an exception like !www.ck keeps what is below its name out of it.
//
// Names under a private suffix are given out by a hosting platform. One that
// joins a site's name and a branch's by -- has to keep them apart from names
// that others choose; nothing keeps a stranger from choosing my-site-evil.
func checkWildcard(host string) error {
	head, tail, _ := strings.Cut(host, "*")
	head = head[strings.LastIndexByte(head, '.')+1:]
	tail, parent, _ := strings.Cut(tail, ".")
	suffix, icann := publicsuffix.PublicSuffix(host)
	switch {
	case strings.HasPrefix(head, "xn--"):
		return errors.New("a * after xn-- would match unrelated names, which it encodes: write the label out")
	case len(suffix) < len(parent): // The parent has an owner, whose are the names below it.
		return nil
	case icann || !strings.Contains(suffix, "."):
		// Without a dot and not ICANN's, it is not on the list at all.
		return advise("names under %q are anybody's to register: put the * below one of your own, "+
			"as in *.my-site.%[1]s", parent)
	case !strings.Contains(head, "--") && !strings.Contains(tail, "--"):
		// A label has no - at its ends, so beyond a -- there is a fixed piece.
		return advise("names under %q are anybody's to take: part the * from your site's name by --, "+
			"as in my-site--*.%[1]s, or put it below that name", parent)
	}
	return nil
}

// browserIPv6 is the URL standard's spelling: netip's, but for an address with
// an IPv4 one in it.
func browserIPv6(addr netip.Addr) string {
	if b := addr.As16(); addr.Is4In6() {
		return fmt.Sprintf("::ffff:%x:%x", binary.BigEndian.Uint16(b[12:]), binary.BigEndian.Uint16(b[14:]))
	}
	return addr.String()
}

// loopback reports whether only the visitor's own machine can serve a page from
// host, on whatever port: browsers resolve localhost and the names below it
// without asking the network.
func loopback(host string) bool {
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		return host == "localhost" || strings.HasSuffix(host, ".localhost")
	}
	return addr.IsLoopback() && !addr.Is4In6()
}

// numeric reports whether a host with this last label is an IPv4 address to
// browsers, which also read hexadecimal.
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

// validPort does without strconv, because its errors allocate.
func validPort(s string) bool {
	return s != "" && s[0] != '0' && strings.Trim(s, "0123456789") == "" && (len(s) < 5 || len(s) == 5 && s <= "65535")
}

// defaultPort is the port that browsers leave out of an origin of this scheme.
func defaultPort(scheme string) string {
	if strings.HasPrefix(scheme, "https") {
		return "443"
	}
	return "80"
}

// lowerASCII leaves the rest for check to see: the lower case of a Kelvin sign
// is an ASCII k.
func lowerASCII(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r - 'A' + 'a'
	}
	return r
}
