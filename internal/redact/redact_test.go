package redact_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"docent/internal/redact"
)

const limit = 300

func TestText(t *testing.T) {
	t.Parallel()
	const document = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	key := redact.Secrets("a.gateway's/credential")
	tests := []struct {
		name, text string
		rules      []redact.Rule
		want       string
	}{
		{"plain", "The model is overloaded.", nil, "The model is overloaded."},
		{"empty", "", nil, ""},

		{"line breaks", " Country, region,\r\n\tor territory\u2028not supported.\n", nil, "Country, region, or territory not supported."},
		{"terminal codes", "\x1b[31mred\x00", nil, "[31mred"},
		{"writing direction", "a\u202eb\u200bc", nil, "a b c"},
		{"broken UTF-8", "a\xffb", nil, "a\uFFFDb"},

		{"API key", "Incorrect API key provided: sk-proj-abc_DEF.", nil, "Incorrect API key provided: [redacted]"},
		{"client secret", `{"client_secret":"ek_abc","id":"x"}`, nil, `{"client_secret":"[redacted]","id":"x"}`},
		{"session key", "sess-abc", nil, "[redacted]"},
		{"masked API key", "for sk-proj-***wxyz", nil, "for [redacted]"},
		{"masked credential of another kind", "key gateway-***body is wrong", nil, "key [redacted] is wrong"},
		{"word that ends like a prefix", "task-list of a risk_group", nil, "task-list of a risk_group"},

		{"secret", "no a.gateway's/credential here", []redact.Rule{key}, "no [redacted] here"},
		{"secret that is not given", "no a.gateway's/credential here", nil, "no a.gateway's/credential here"},
		{"secret in upper case", "no A.GATEWAY'S/CREDENTIAL here", []redact.Rule{key}, "no [redacted] here"},
		{"secret in a path", "GET /a.gateway%27s%2fcredential", []redact.Rule{key}, "GET /[redacted]"},
		{"secret in a query", "?key=a.gateway%27s%2Fcredential", []redact.Rule{key}, "?key=[redacted]"},
		{"secret with a space in a query", "?key=two+words", []redact.Rule{redact.Secrets("two words")}, "?key=[redacted]"},
		{"secret in quotes", `malformed "say \"hi\" \u2028"`, []redact.Rule{redact.Secrets("say \"hi\" \u2028")}, `malformed "[redacted]"`},
		{"secret over two lines", "no two\nwords here", []redact.Rule{redact.Secrets("two words")}, "no [redacted] here"},
		{"secret with a line break", "no two words here", []redact.Rule{redact.Secrets("two\r\nwords\n")}, "no [redacted] here"},
		{"secret that is a pattern", "a.b axb", []redact.Rule{redact.Secrets("a.b")}, "[redacted] axb"},
		{"secret within another", "abc ab", []redact.Rule{redact.Secrets("ab", "abc")}, "[redacted] [redacted]"},
		{"secrets in two rules", "one two", []redact.Rule{redact.Secrets("one"), redact.Secrets("two")}, "[redacted] [redacted]"},
		{"empty secret", "nothing", []redact.Rule{redact.Secrets("")}, "nothing"},
		{"secret of spaces", "no thing", []redact.Rule{redact.Secrets(" \n")}, "no thing"},
		{"zero rule", "nothing", []redact.Rule{{}}, "nothing"},

		{"document", "no document rate_limits/" + document + " in docs", []redact.Rule{redact.Names}, "no document rate_limits/… in docs"},
		{"shorter hash", document[1:], []redact.Rule{redact.Names}, document[1:]},
		{"IPv4 address", "dial tcp 192.0.2.1:443: connection refused", []redact.Rule{redact.Names}, "dial tcp …: connection refused"},
		{"IPv4 address without a port", "for 192.0.2.1", []redact.Rule{redact.Names}, "for …"},
		{"IPv6 address", "dial tcp [2001:db8::1]:443: connection refused", []redact.Rule{redact.Names}, "dial tcp …: connection refused"},
		{"IPv6 address with a zone", "dial tcp [fe80::1%eth0]:443", []redact.Rule{redact.Names}, "dial tcp …"},
		{"address where names are not hidden", "dial tcp 192.0.2.1:443", nil, "dial tcp 192.0.2.1:443"},

		{"as long as may be", strings.Repeat("ä", limit), nil, strings.Repeat("ä", limit)},
		{"too long", strings.Repeat("ä", limit+1), nil, strings.Repeat("ä", limit) + "…"},
		{"too long by its spaces", strings.Repeat(" a", limit/2), nil, strings.Repeat("a ", limit/2)[:limit-1]},
		{"secret on the bound", strings.Repeat("x", limit-3) + " a.gateway's/credential", []redact.Rule{key}, strings.Repeat("x", limit-3) + " [r…"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := redact.Text(tt.text, limit, tt.rules...); got != tt.want {
				t.Errorf("Text = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestOneLine(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 2*limit)
	const want = "grant the role with `gcloud` on sk-proj-1 "
	if got := redact.OneLine("\ngrant the role\n\twith `gcloud` on sk-proj-1 \u00a0" + long); got != want+long {
		t.Errorf("OneLine = %q, want %q", got, want+long)
	}
}

// FuzzText has a text repeat a secret in every form.
func FuzzText(f *testing.F) {
	for _, secret := range []string{
		"sk-test-KEY", "two words", "a\tb\n", "100%", "say \"hi\"", "K", "ſtraße", "a.b*c", "192.0.2.1:443", "\u00a0x", "ek_", "x**y",
	} {
		f.Add("no ", secret, " here", 20)
	}
	f.Add("\xc3", "sk-test-KEY", "\xa4", 300)
	f.Add("a", "aab", "b", 300)
	f.Add("", "", "", 0)
	f.Fuzz(func(t *testing.T, before, secret, after string, limit int) {
		limit = min(max(limit, 0), 1000)
		text := strings.Repeat(before+secret+after, 3) + secret
		got := redact.Text(text, limit, redact.Secrets(secret), redact.Names)
		if n := utf8.RuneCountInString(got); n > limit+1 {
			t.Errorf("%d characters, want %d at most and an ellipsis: %q", n, limit, got)
		}
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("not one printable line: %q", got)
		}
		// What stands in place of a secret may itself hold a short one, such as "e".
		// Spaces alone are not a secret, and half of a character is not one either.
		line := redact.OneLine(secret)
		if line == "" || !utf8.ValidString(secret) || strings.ContainsAny(line, "[]…") || strings.Contains("[redacted]…", line) {
			return
		}
		for _, form := range []string{secret, line} {
			if strings.Contains(got, form) {
				t.Errorf("%q shows %q", got, form)
			}
		}
	})
}
