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
	// minQuote is how many bytes of a sent text a message may not have in a row.
	minQuote = 16
)

// versionOnly matches a path that holds nothing but a version, as OpenAI's does.
var versionOnly = regexp.MustCompile(`^(/v[0-9]{1,2}(alpha|beta)?[0-9]?)?$`)

// scrubber returns a function that makes a foreign text fit for the log. OpenAI
// and gateways quote the key and the URL of a call, and net/http quotes answers
// that it cannot read. What repeats a part of the texts, such as a visitor's
// question, is left out.
func (c *Client) scrubber(key string, texts []string) func(text string) string {
	return func(text string) string {
		text = redact.Text(text, maxText, redact.Secrets(key), c.tokens)
		if quotes(text, texts) {
			return "[repeats what was sent]"
		}
		return text
	}
}

// quotes reports whether a line has minQuote bytes in a row from one of the texts,
// or all of a shorter one. The shortest are words that an error needs.
func quotes(line string, texts []string) bool {
	for _, text := range texts {
		text = redact.OneLine(text) // As the line is.
		if len(text) < minToken {
			continue
		}
		n := min(minQuote, len(text))
		for i := 0; i+n <= len(line); i++ {
			if strings.Contains(text, line[i:i+n]) {
				return true
			}
		}
	}
	return false
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
