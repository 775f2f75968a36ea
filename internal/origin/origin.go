// Package origin implements the allow-list of the pages that may use the assistant.
//
// A page cannot forge the Origin header in its visitor's browser. Other clients can
// send any Origin, so the header proves nothing about them; the rate limit deals
// with those. The list stops a stranger's page from spending this site's money
// through the browsers of its own visitors, each of whom has their own address. So
// an entry must never allow more than its author thinks. [Parse] refuses entries
// that would allow anyone who registers a name or opens a free project, and
// spellings that no browser sends. [List.Allows] compares bytes and normalises
// nothing, because each normalisation is another spelling to get wrong.
package origin

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

const (
	maxHost  = 253 // bytes of a DNS name as text, without a final dot (RFC 1035, 2.3.4)
	maxLabel = 63  // bytes of one of its labels
	maxLen   = len("https://") + maxHost + len(":65535")
)

// List is the set of origins that may use the assistant. The zero value allows no
// origin. A List is immutable and safe for concurrent use.
type List struct {
	exact    map[string]struct{}
	patterns []pattern // sorted by their text, so that equal lists are equal values
}

// Allows reports whether origin, the value of an Origin header, is on the list. It
// compares bytes with the spelling that browsers send: upper case, a default port, a
// final dot or a second value never match. It does not allocate, and a longer origin
// does not make it slower.
func (l List) Allows(origin string) bool {
	if len(origin) > maxLen { // Before the map lookup, which would hash all of it.
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

// Exact returns the origins that are listed without a *, sorted.
func (l List) Exact() []string { return slices.Sorted(maps.Keys(l.exact)) }

// String returns the list in canonical form: lower case, sorted and without
// duplicates. Parse reads it back.
func (l List) String() string {
	entries := slices.Collect(maps.Keys(l.exact))
	for _, p := range l.patterns {
		entries = append(entries, p.text)
	}
	slices.Sort(entries)
	return strings.Join(entries, ",")
}

var shape = regexp.MustCompile(`^https?://([0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)

// WellFormed reports whether origin is http or https, a host and an optional port,
// and nothing else. A refused origin that is well-formed may be logged, because it
// cannot contain a password, a query or a line break. Spellings that browsers do not
// use are well-formed too: an upper-case letter or a default port may be the mistake
// that the operator is looking for.
func WellFormed(origin string) bool {
	return len(origin) <= maxLen && shape.MatchString(origin)
}

// pattern is an entry with a *, split into the parts that matches compares.
type pattern struct {
	text        string
	head, tail  string // the text before and after the *; if the * is the port, head excludes the colon
	port        bool   // the * is the port
	left, right int    // length in bytes of the origin before and after the label with the *
	max         int    // length in bytes of the longest origin that may match: its host has maxHost bytes
}

// compile splits an entry that check has accepted.
func compile(entry string) pattern {
	head, tail, _ := strings.Cut(entry, "*")
	if head, ok := strings.CutSuffix(head, ":"); ok {
		return pattern{text: entry, head: head, port: true}
	}
	port := len(tail) - strings.IndexByte(tail+":", ':') // Its length in bytes, with the colon.
	return pattern{
		text: entry, head: head, tail: tail,
		left:  strings.LastIndexAny(head, "/.") + 1,
		right: len(tail) - strings.IndexByte(tail, '.'), // A * is never in the last label.
		max:   strings.LastIndexByte(head, '/') + 1 + maxHost + port,
	}
}

// matches compares all of origin with the entry, except for one label or the port.
// That label or port must not contain a character that could end a label, the host
// or the port.
func (p *pattern) matches(origin string) bool {
	if p.port {
		port, ok := strings.CutPrefix(origin, p.head)
		return ok && (port == "" || port[0] == ':' && validPort(port[1:]) && port[1:] != defaultPort(p.head))
	}
	if len(origin) <= len(p.head)+len(p.tail) || len(origin) > p.max ||
		!strings.HasPrefix(origin, p.head) || !strings.HasSuffix(origin, p.tail) {
		return false
	}
	// A fixed piece means nothing in punycode: xn--my-site does not belong to
	// *--my-site. It encodes an unrelated name, which a stranger may own.
	label := origin[p.left : len(origin)-p.right]
	whole := p.left == len(p.head) && p.right == len(p.tail)
	return validLabel(label) && (whole || !strings.HasPrefix(label, "xn--"))
}
