package hosted

import (
	"cmp"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

const (
	// maxText is how many bytes of each foreign text reach the log.
	maxText = 500
	// minToken is the length in bytes from which a segment of the base URL's path
	// is taken for a token. Shorter ones are words that an error needs, such as v1
	// and openai.
	minToken = 8

	redacted = "[redacted]"
)

// credential matches what OpenAI's keys and client secrets look like, masked
// ones included: its 401 quotes parts of the key.
var credential = regexp.MustCompile(`\b(sk|ek|sess)[-_][\w*.-]+`)

// versionOnly matches a path that holds nothing but a version, as OpenAI's does.
var versionOnly = regexp.MustCompile(`^(/v[0-9]{1,2}(alpha|beta)?[0-9]?)?$`)

// scrubber returns a function that makes a foreign text fit for the log: OpenAI
// and gateways quote the key and the URL that they were called with, and
// net/http quotes answers that it cannot read.
func (c *Client) scrubber(key string) func(text string) string {
	return func(text string) string {
		if key != "" {
			text = strings.ReplaceAll(text, key, redacted)
		}
		if c.token != nil {
			text = c.token.ReplaceAllString(text, redacted)
		}
		text = credential.ReplaceAllString(text, redacted)
		if len(text) > maxText {
			text = strings.ToValidUTF8(text[:maxText], "") + "…"
		}
		return text
	}
}

// tokenOf returns what matches the parts of a base URL that may be a token, or
// nil if it has none: its path, and the longer segments of it, in every escaping
// that a gateway may quote them in.
func tokenOf(baseURL string) *regexp.Regexp {
	u, err := url.Parse(baseURL)
	if err != nil || versionOnly.MatchString(u.Path) {
		return nil
	}
	written := u.EscapedPath()
	hidden := []string{written, u.Path, (&url.URL{Path: u.Path}).EscapedPath()}
	for segment := range strings.SplitSeq(written, "/") {
		plain, err := url.PathUnescape(segment)
		if err == nil && len(plain) >= minToken {
			hidden = append(hidden, segment, plain, url.PathEscape(plain), url.QueryEscape(plain))
		}
	}
	// The first alternative that matches wins, so the longest must come first.
	slices.SortFunc(hidden, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	hidden = slices.Compact(hidden)
	for i, s := range hidden {
		hidden[i] = regexp.QuoteMeta(s)
	}
	// Without regard to case, which %2f and %2F differ in.
	return regexp.MustCompile(`(?i)` + strings.Join(hidden, "|"))
}
