package openai

import (
	"net/url"
	"regexp"
	"strings"

	"docent/internal/redact"
)

const (
	// maxText is how many characters of each foreign text reach the log.
	maxText = 500
	// minToken is the length in bytes from which a segment of the base URL's path
	// is taken for a token. Shorter ones are words that an error needs, such as v1
	// and openai.
	minToken = 8
)

// versionOnly matches a path that holds nothing but a version, as OpenAI's does.
var versionOnly = regexp.MustCompile(`^(/v[0-9]{1,2}(alpha|beta)?[0-9]?)?$`)

// scrubber returns a function that makes a foreign text fit for the log. OpenAI
// and gateways quote the key and the URL of a call, and net/http quotes answers
// that it cannot read.
func (c *Client) scrubber(key string) func(text string) string {
	return func(text string) string { return redact.Text(text, maxText, redact.Secrets(key), c.tokens) }
}

// tokens returns the rule that hides the parts of a base URL that may be a token:
// its path and the longer segments of it.
func tokens(baseURL string) redact.Rule {
	u, err := url.Parse(baseURL)
	if err != nil || versionOnly.MatchString(u.Path) {
		return redact.Rule{}
	}
	hidden := []string{u.EscapedPath(), u.Path}
	for segment := range strings.SplitSeq(u.EscapedPath(), "/") {
		if plain, err := url.PathUnescape(segment); err == nil && len(plain) >= minToken {
			hidden = append(hidden, segment, plain)
		}
	}
	return redact.Secrets(hidden...)
}
