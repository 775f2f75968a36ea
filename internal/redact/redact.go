// Package redact makes foreign text fit to log and to report: what another
// service answered, and what a library says of that answer. Such a text may
// quote the credentials of the call, be of any length, and hold line breaks and
// control characters.
package redact

import (
	"cmp"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

const (
	mark     = "[redacted]" // In place of a credential.
	ellipsis = "…"          // In place of a name, and of what is cut off.
)

// credentials are hidden in every text.
var credentials = []Rule{
	// OpenAI's keys and client secrets. Its 401 quotes parts of the key.
	{regexp.MustCompile(`\b(sk|ek|sess)[-_][\w*.-]+`), mark},
	// Any credential of which a service shows parts, as in gateway-***abcd.
	{regexp.MustCompile(`\S*\*\*\S*`), mark},
}

// Names hides what names a visitor: IP addresses with their ports, and hashes
// of 64 hexadecimal digits, which are the IDs of documents.
var Names = Rule{
	regexp.MustCompile(`[0-9a-f]{64}|\d+\.\d+\.\d+\.\d+(:\d+)?|\[[0-9a-fA-F:.]+(%\w+)?\](:\d+)?`), ellipsis,
}

// Rule is something that a text must not show. The zero Rule hides nothing.
type Rule struct {
	find *regexp.Regexp
	put  string
}

// Secrets returns the rule that hides the values given, in upper and lower case
// and in the escaped forms that a service may quote them in. An empty value is
// ignored.
func Secrets(values ...string) Rule {
	var forms []string
	for _, v := range values {
		quoted := strconv.Quote(v)
		for _, form := range []string{
			v, url.PathEscape(v), url.QueryEscape(v), (&url.URL{Path: v}).EscapedPath(), quoted[1 : len(quoted)-1],
		} {
			if form = OneLine(form); form != "" { // As it stands in the text.
				forms = append(forms, form)
			}
		}
	}
	if len(forms) == 0 {
		return Rule{}
	}
	// The first alternative that matches wins, so the longest must come first.
	slices.SortFunc(forms, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	forms = slices.Compact(forms)
	for i, f := range forms {
		forms[i] = regexp.QuoteMeta(f)
	}
	return Rule{regexp.MustCompile(`(?i)` + strings.Join(forms, "|")), mark}
}

// Text returns a foreign text as one line of at most limit characters, and an
// ellipsis if it was longer. It replaces credentials, and what the rules hide.
//
// It must see the whole text: one that was cut before may end with a part of a
// secret, which no rule finds.
func Text(text string, limit int, rules ...Rule) string {
	text = OneLine(text)
	for _, r := range slices.Concat(rules, credentials) {
		if r.find != nil {
			text = r.find.ReplaceAllLiteralString(text, r.put)
		}
	}
	return cut(text, limit)
}

// OneLine returns a text as one line of valid UTF-8. Each run of spaces, control
// characters and invisible characters becomes one space. It hides nothing and
// does not shorten: it is for sentences of our own that quote a foreign text.
func OneLine(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }), " ")
}

// cut returns at most limit characters of a text.
func cut(text string, limit int) string {
	n := 0
	for i := range text {
		if n == limit {
			return text[:i] + ellipsis
		}
		n++
	}
	return text
}
