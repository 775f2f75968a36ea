package origin_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"docent/internal/origin"

	"github.com/google/go-cmp/cmp"
)

// deep makes cmp compare unexported fields, too.
var deep = cmp.Exporter(func(reflect.Type) bool { return true })

// hostOf returns a host of n bytes under example.com, with labels of up to 63 bytes.
func hostOf(n int) string {
	const end = ".example.com"
	host := strings.Repeat("a", 63)
	for len(host)+len(end)+64 <= n {
		host += "." + strings.Repeat("a", 63)
	}
	if left := n - len(end) - len(host); left > 1 {
		host += "." + strings.Repeat("a", left-1)
	}
	return host + end
}

func mustParse(tb testing.TB, list string) origin.List {
	tb.Helper()
	l, err := origin.Parse(list)
	if err != nil {
		tb.Fatalf("Parse(%q): %v", list, err)
	}
	return l
}

func TestParse(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name, list, want string
	}{
		{"one site", "https://taquito.io", "https://taquito.io"},
		{"capitals", "HTTPS://Taquito.IO", "https://taquito.io"},
		{"spaces around entries", " https://b.example ,\t\n https://a.example ", "https://a.example,https://b.example"},
		{"repeated entry", "https://a.example,https://A.example", "https://a.example"},
		{"repeated pattern", "https://*.a.example,https://*.A.example", "https://*.a.example"},
		{"order of patterns", "https://*.b.example,https://*.a.example", "https://*.a.example,https://*.b.example"},
		{"other port", "https://taquito.io:8443", "https://taquito.io:8443"},
		{"the other scheme's default port", "http://taquito.io:443,https://taquito.io:80", "http://taquito.io:443,https://taquito.io:80"},
		{"highest port", "https://taquito.io:65535", "https://taquito.io:65535"},
		{"name of one label", "http://intranet", "http://intranet"},
		{"label with hyphens inside", "https://r3---sn-x.example.com", "https://r3---sn-x.example.com"},
		{"punycode", "https://xn--bcher-kva.example", "https://xn--bcher-kva.example"},
		{"IPv4", "http://192.168.0.1:3000", "http://192.168.0.1:3000"},
		{"IPv6", "http://[2001:DB8::1]", "http://[2001:db8::1]"},
		{"IPv4 in IPv6, as browsers write it", "http://[::ffff:7f00:1]", "http://[::ffff:7f00:1]"},
		{"number inside a name", "https://1.2.example.com", "https://1.2.example.com"},
		{"last label that is not a hexadecimal number", "https://example.0xyz", "https://example.0xyz"},
		{"longest label", "https://" + strings.Repeat("a", 63) + ".example", "https://" + strings.Repeat("a", 63) + ".example"},
		{"longest host", "https://" + hostOf(253), "https://" + hostOf(253)},

		{"any port of localhost", "http://localhost:*", "http://localhost:*"},
		{"any port below localhost", "http://docs.localhost:*", "http://docs.localhost:*"},
		{"any port of 127.0.0.0/8", "https://127.1.2.3:*", "https://127.1.2.3:*"},
		{"any port of ::1", "http://[::1]:*", "http://[::1]:*"},

		{"previews of a pages.dev project", "https://*.taquito-584.pages.dev", "https://*.taquito-584.pages.dev"},
		{"labels below an own name", "https://*.docs.example.com", "https://*.docs.example.com"},
		{"directly below an own name", "http://*.example.com:8080", "http://*.example.com:8080"},
		{"piece before", "https://pr-*.example.com", "https://pr-*.example.com"},
		{"piece after", "https://*-pr.example.com", "https://*-pr.example.com"},
		{"inner label", "https://docs.*.example.com", "https://docs.*.example.com"},
		{"below an exception of the suffix list", "https://*.www.ck", "https://*.www.ck"},
		{"below an exception inside a suffix", "https://*.city.kawasaki.jp", "https://*.city.kawasaki.jp"},
		{"below an instance", "https://*.ec2-1.us-west-2.compute.amazonaws.com", "https://*.ec2-1.us-west-2.compute.amazonaws.com"},
		{"below a name of localhost", "http://*.docs.localhost", "http://*.docs.localhost"},
		{"Firebase channels", "https://my-site--*.web.app", "https://my-site--*.web.app"},
		{"Firebase channels with a prefix", "https://my-site--pr*.web.app", "https://my-site--pr*.web.app"},
		{"Netlify branches", "https://*--my-site.netlify.app", "https://*--my-site.netlify.app"},
		{"Cloud Run tags", "https://*---docs-abc123-uc.a.run.app", "https://*---docs-abc123-uc.a.run.app"},
		{"piece with -- inside a private suffix", "https://*--my-app.code.run", "https://*--my-app.code.run"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := mustParse(t, tt.list)
			if diff := cmp.Diff(tt.want, l.String()); diff != "" {
				t.Errorf("String (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(l, mustParse(t, l.String()), deep); diff != "" {
				t.Errorf("Parse(String()) (-first +second):\n%s", diff)
			}
		})
	}
}

func TestParse_Invalid(t *testing.T) {
	t.Parallel()

	const (
		anybody  = "would allow every page"
		register = "anyone can register a name"
		take     = "anyone can take a name"
		lastOrIP = "last label of a host or in an IP address"
		ipv4     = "four decimal numbers"
		ipv6     = "only an IPv6 address, without a zone"
		badPort  = "from 1 to 65535 without a leading zero"
		badLabel = "without a hyphen at either end"
	)
	tests := []struct {
		name, entry, want string
	}{
		{"nothing", "", "the list is empty"},
		{"blanks", " \t ", "the list is empty"},

		{"no scheme", "taquito.io", "start it with https://"},
		{"sandboxed frame", "null", "start it with https://"},
		{"scheme-relative", "//taquito.io", "start it with https://"},
		{"file page", "file://", "only https:// and http://"},
		{"extension page", "chrome-extension://abcdefgh", "only https:// and http://"},
		{"websocket", "wss://taquito.io", "only https:// and http://"},
		{"no host", "https://", "the host is missing"},
		{"port without a host", "https://:8443", "the host is missing"},

		{"bare star", "*", anybody},
		{"any https host", "https://*", anybody},
		{"any host and port", "http://*:*", anybody},
		{"any host at a port", "http://*:8080", anybody},
		{"star in the scheme", "http*://taquito.io", "in the scheme"},
		{"star as the scheme", "*://taquito.io", "in the scheme"},
		{"two stars in labels", "https://*.*.example.com", "only one *"},
		{"two stars in a label", "https://*a*.example.com", "only one *"},
		{"star in host and port", "http://*.localhost:*", "only one *"},
		{"double star", "https://**.example.com", "only one *"},

		{"trailing slash", "https://taquito.io/", `remove "/" from the end`},
		{"path", "https://taquito.io/docs", `remove "/docs" from the end`},
		{"star in a path", "https://taquito.io/*", `remove "/*" from the end`},
		{"backslash", `https://taquito.io\docs`, "from the end"},
		{"query", "https://taquito.io?a=b", `remove "?a=b" from the end`},
		{"fragment", "https://taquito.io#a", `remove "#a" from the end`},
		{"space inside", "https://taquito.io https://example.com", "remove the space"},
		{"line break inside", "https://taquito.io\nhttps://example.com", "remove the space"},
		{"null byte", "https://taquito.io\x00", "remove the space or control character"},
		{"semicolon for a comma", "https://taquito.io;https://example.com", "from the end"},

		{"https default port", "https://taquito.io:443", "remove :443"},
		{"http default port", "http://localhost:80", "remove :80"},
		{"port 0", "https://taquito.io:0", badPort},
		{"leading zero", "https://taquito.io:08443", badPort},
		{"port too high", "https://taquito.io:65536", badPort},
		{"port of six digits", "https://taquito.io:100000", badPort},
		{"no port after the colon", "https://taquito.io:", badPort},
		{"signed port", "https://taquito.io:+8443", badPort},
		{"port in words", "https://taquito.io:https", badPort},
		{"any port of a public host", "https://taquito.io:*", "only a loopback host"},
		{"any port of a name like localhost", "http://mylocalhost:*", "only a loopback host"},
		{"any port of a name with localhost in it", "http://localhost.example.com:*", "only a loopback host"},
		{"any port of a private network's address", "http://192.168.0.1:*", "only a loopback host"},
		{"any port of IPv4 loopback in IPv6", "http://[::ffff:7f00:1]:*", "only a loopback host"},
		{"part of a port", "http://localhost:30*", "must be the whole port"},

		{"dot at the end", "https://taquito.io.", "remove the dot"},
		{"only a dot", "https://.", "remove the dot"},
		{"dot at the start", "https://.taquito.io", badLabel},
		{"two dots", "https://docs..taquito.io", badLabel},
		{"hyphen at a label's start", "https://-docs.taquito.io", badLabel},
		{"hyphen at a label's end", "https://docs-.taquito.io", badLabel},
		{"underscore", "https://my_docs.taquito.io", badLabel},
		{"percent-encoded host", "https://taquito%2eio", badLabel},
		{"label too long", "https://" + strings.Repeat("a", 64) + ".example", badLabel},
		{"label that the star makes too long", "https://" + strings.Repeat("a", 63) + "*.example.com", badLabel},
		{"host too long", "https://" + hostOf(254), "at most 253"},

		{"IDN", "https://bücher.example", `"xn--bcher-kva"`},
		{"IDN in capitals", "https://BÜCHER.example", `"xn--bcher-kva"`},
		{"Kelvin sign", "https://\u212Aelvin.example", `"kelvin"`},
		{"fullwidth letters", "https://ｔaquito.io", `"taquito"`},
		{"IDN with a star", "https://bü*.example.com", "without a *"},
		{"invalid UTF-8", "https://a\xff.example.com", "is not ASCII"},

		{"short IPv4", "http://127.1", ipv4},
		{"decimal IPv4", "http://2130706433", ipv4},
		{"hexadecimal IPv4", "http://0x7f.0.0.0x1", ipv4},
		{"empty hexadecimal number", "http://example.0x", ipv4},
		{"octal IPv4", "http://0177.0.0.1", ipv4},
		{"IPv4 of five numbers", "http://1.2.3.4.5", ipv4},
		{"name that ends in a number", "https://example.1", ipv4},
		{"IPv4 in brackets", "http://[127.0.0.1]", ipv6},
		{"star for IPv4's last number", "http://192.168.0.*", lastOrIP},
		{"star for IPv4's first number", "http://*.0.0.1", lastOrIP},
		{"star in IPv6", "http://[2001:db8::*]", ipv6},
		{"IPv6 without brackets", "http://::1", ipv6},
		{"IPv6 with one bracket", "http://[::1", ipv6},
		{"long IPv6", "http://[0:0:0:0:0:0:0:1]", "[::1]"},
		{"IPv4 in IPv6", "http://[::ffff:127.0.0.1]", "[::ffff:7f00:1]"},
		{"zone", "http://[fe80::1%eth0]", ipv6},
		{"brackets with nothing", "http://[]", ipv6},
		{"something after the brackets", "http://[::1]a", ipv6},

		{"star for a top-level domain", "https://taquito.*", lastOrIP},
		{"star in a top-level domain", "https://taquito.i*", lastOrIP},
		{"anything in com", "https://*.com", register},
		{"anything like ours in com", "https://taquito*.com", register},
		{"anything with our piece in com", "https://taquito--*.com", register},
		{"sub-domain of anything in com", "https://docs.*.com", register},
		{"anything in a suffix of two labels", "https://*.co.uk", register},
		{"star in a suffix of two labels", "https://taquito.c*.uk", register},
		{"star in a wildcard rule", "https://*.ck", register},
		{"star that also matches an exception", "https://w*.ck", register},
		{"under a wildcard rule", "https://*.foo.ck", register},
		{"next to an exception", "https://*.kawasaki.jp", register},
		{"under an unknown suffix", "https://*.internal", register},
		{"under an unknown suffix, with --", "https://docs--*.internal", register},
		{"any name of localhost", "http://*.localhost", register},
		{"any name of localhost at a port", "http://*.localhost:3000", register},

		{"any Firebase site", "https://*.web.app", take},
		{"any Pages project", "https://*.pages.dev", take},
		{"any GitHub pages", "https://*.github.io", take},
		{"site name that starts like ours", "https://my-site*.web.app", take},
		{"site name with more after a hyphen", "https://my-site-*.web.app", take},
		{"site name that ends like ours", "https://*-my-site.netlify.app", take},
		{"sub-domain of any site", "https://docs.*.netlify.app", take},
		{"our piece in another label", "https://my--site.*.netlify.app", take},
		{"star in a private wildcard rule", "https://*.compute.amazonaws.com", take},
		{"under a private wildcard rule", "https://*.us-west-2.compute.amazonaws.com", take},
		{"nothing before the --", "https://--*.web.app", badLabel},
		{"nothing after the --", "https://*--.web.app", badLabel},
		{"punycode's prefix as the piece", "https://xn--*.web.app", "xn--"},
		{"punycode with our piece", "https://xn--*--my-site.web.app", "xn--"},
		{"punycode below an own name", "https://xn--*.example.com", "xn--"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, err := origin.Parse(tt.entry)
			faults := unjoin(t, err)
			if len(faults) != 1 || !strings.Contains(faults[0].Error(), tt.want) {
				t.Errorf("Parse(%q) = %q, want one fault with %q", tt.entry, faults, tt.want)
			}
			if diff := cmp.Diff(origin.List{}, l, deep); diff != "" {
				t.Errorf("the list is not empty (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParse_AllFaults(t *testing.T) {
	t.Parallel()

	l, err := origin.Parse("https://good.example, https://bad.example/,, https://user:secret@example.com/, *,")
	faults := unjoin(t, err)
	want := []string{
		`entry 2, "https://bad.example/": remove "/" from the end: an origin has no path, query, fragment or final slash`,
		`entry 3, "": it is empty: remove the extra comma`,
		`entry 4: remove the @ and everything before it: an origin has no user or password`,
		`entry 5, "*": it would allow every page on the web: name the site, as in https://docs.example.com`,
		`entry 6, "": it is empty: remove the extra comma`,
	}
	var got []string
	for _, fault := range faults {
		got = append(got, fault.Error())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	if l.Allows("https://good.example") {
		t.Error("a list with a fault allows its good entry")
	}
}

// keys are credentials of several kinds, as an operator may paste them.
var keys = map[string]string{
	"OpenAI's":                  "sk-test-KEY0000000000000000000000000000KEY",
	"OpenAI's, longer":          "sk-proj-" + strings.Repeat("aB3_xY9-", 19) + "A",
	"OpenAI's, short":           "sk-test-key",
	"client secret":             "ek_68d4c0ffee68d4c0ffee",
	"session":                   "sess-68d4c0ffee",
	"hexadecimal":               "0123456789abcdef0123456789ABCDEF",
	"UUID":                      "6F9619FF-8B86-D011-B42D-00CF4FC964FF",
	"JSON Web Token":            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVPmB92K27uhbUJU1p1rwW1gFWFOEjXk",
	"key of over 40 characters": "v1.0-AbCdEfGh1234567890_AbCdEfGh1234567890",
}

// An operator may paste a key into any place of the list. Neither a fault nor an
// accepted list may contain it.
func TestParse_KeyHidden(t *testing.T) {
	t.Parallel()
	places := []struct{ name, list string }{
		{"bare", "KEY"},
		{"with its variable", "OPENAI_API_KEY=KEY"},
		{"after a comma", "https://docs.example.com, KEY"},
		{"before a comma", "KEY,https://docs.example.com/"},
		{"after a line break", "https://docs.example.com\nKEY"},
		{"after a space", "https://docs.example.com KEY"},
		{"as the scheme", "KEY://docs.example.com"},
		{"before the scheme", "KEYhttps://docs.example.com"},
		{"as the host", "https://KEY"},
		{"as the host of another scheme", "wss://KEY"},
		{"as the host, with a slash", "https://KEY/"},
		{"as the host, with a port", "https://KEY:8443"},
		{"as the host, with a zero-width space", "https://KEY\u200b"},
		{"as the host, with a letter that is not ASCII", "https://KEYé"},
		{"as the host, in brackets", "https://[KEY]"},
		{"as the host, with a dot at its end", "https://KEY."},
		{"as the host, with an underscore", "https://KEY_"},
		{"after the host", "https://docs.example.comKEY"},
		{"as a label under a bad one", "https://KEY.my_site.example.com"},
		{"as a label, with a path", "https://KEY.example.com/docs"},
		{"below a star", "https://*.KEY"},
		{"next to a star", "https://KEY*.web.app"},
		{"as a user", "https://KEY@docs.example.com"},
		{"as a password", "https://user:KEY@docs.example.com"},
		{"as a user without a scheme", "KEY@docs.example.com"},
		{"as a path", "https://docs.example.com/KEY"},
		{"in a path", "https://docs.example.com/v1/KEY/docs"},
		{"after a backslash", `https://docs.example.com\KEY`},
		{"in a query", "https://docs.example.com?key=KEY"},
		{"in a query after a path", "https://docs.example.com/?key=KEY&a=b"},
		{"as a fragment", "https://docs.example.com#KEY"},
		{"as a port", "https://docs.example.com:KEY"},
		{"after a port", "https://docs.example.com:8443KEY"},
		{"after a semicolon", "https://docs.example.com;KEY"},
	}
	for kind, key := range keys {
		for _, place := range places {
			t.Run(kind+" "+place.name, func(t *testing.T) {
				t.Parallel()
				if place.name == "after the host" && len(key) < 20 {
					t.Skip("it looks like a name such as desk-reservations")
				}
				list := strings.ReplaceAll(place.list, "KEY", key)
				l, err := origin.Parse(list)
				if err == nil {
					t.Errorf("Parse(%q) found no fault", list)
				}
				output := strings.ToLower(fmt.Sprint(err, l))
				for part := range strings.FieldsFuncSeq(strings.ToLower(key), func(r rune) bool { return r == '.' }) {
					if len(part) > 4 && strings.Contains(output, part) {
						t.Errorf("%q shows the key:\n%v", list, output)
					}
				}
			})
		}
	}
}

// A fault quotes an entry that is clearly an origin. It names any other entry only by
// its number.
func TestParse_EntryQuoted(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, entry, want string }{
		{"slash", "https://Docs.example.com/", `entry 1, "https://Docs.example.com/": remove "/" from the end: an origin has no path, query, fragment or final slash`},
		{"short path", "https://docs.example.com/docs", `entry 1, "https://docs.example.com/docs": remove "/docs" from the end: an origin has no path, query, fragment or final slash`},
		{"long path", "https://docs.example.com/getting-started", `entry 1: remove "…" from the end: an origin has no path, query, fragment or final slash`},
		{"preview", "https://my-site--pr42-a1b2c3d4.web.app/", `entry 1, "https://my-site--pr42-a1b2c3d4.web.app/": remove "/" from the end: an origin has no path, query, fragment or final slash`},
		{"default port", "https://docs.example.com:443", `entry 1, "https://docs.example.com:443": remove :443: browsers omit the default port`},
		{"IDN", "https://bücher.example", `entry 1, "https://bücher.example": "bücher" is not ASCII: write it as browsers send it, "xn--bcher-kva"`},
		{"IPv6", "http://[0::1]:8080", `entry 1, "http://[0::1]:8080": write the address as browsers send it, [::1]`},
		{"star", "https://*.com", `entry 1, "https://*.com": anyone can register a name under "com": put the * below your own name, as in *.my-site.com`},
		{"no scheme", "docs.example.com", "entry 1: start it with https:// or http://, as in https://docs.example.com"},
		{"site that begins as a key does", "https://sk-docs.example.com/", `entry 1, "https://sk-docs.example.com/": remove "/" from the end: an origin has no path, query, fragment or final slash`},
		{"key for a host", "https://" + keys["OpenAI's"], "entry 1: it looks like a key, which belongs in OPENAI_API_KEY: name the site here, as in https://docs.example.com"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := origin.Parse(tt.entry)
			if diff := cmp.Diff(tt.want, fmt.Sprint(err)); diff != "" {
				t.Errorf("fault (-want +got):\n%s", diff)
			}
		})
	}
}

// unjoin returns the faults of an error from Parse.
func unjoin(t *testing.T, err error) []error {
	t.Helper()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("error %v (%T) does not unwrap to its faults", err, err)
	}
	return joined.Unwrap()
}

func TestAllows(t *testing.T) {
	t.Parallel()

	const (
		site     = "https://taquito.io"
		previews = "https://*.taquito-584.pages.dev"
		channels = "https://my-site--*.web.app"
		branches = "https://*--my-site.netlify.app"
		local    = "http://localhost:*"
	)
	label := func(n int) string { return strings.Repeat("a", n) }
	tests := []struct {
		name, list, origin string
		want               bool
	}{
		{"the site", site, "https://taquito.io", true},
		{"one of several", site + "," + previews + "," + local, "https://taquito.io", true},
		{"no header", site, "", false},
		{"sandboxed frame", site, "null", false},
		{"sandboxed frame and patterns", previews + "," + local, "null", false},
		{"another scheme", site, "http://taquito.io", false},
		{"another port", site, "https://taquito.io:8443", false},
		{"default port", site, "https://taquito.io:443", false},
		{"the configured port left out", "https://taquito.io:8443", "https://taquito.io", false},
		{"capital host", site, "https://Taquito.io", false},
		{"capital scheme", site, "HTTPS://taquito.io", false},
		{"dot at the end", site, "https://taquito.io.", false},
		{"slash at the end", site, "https://taquito.io/", false},
		{"user", site, "https://taquito.io@evil.example", false},
		{"user before the host", site, "https://evil@taquito.io", false},
		{"two origins", site, "https://taquito.io https://evil.example", false},
		{"two origins with a comma", site, "https://taquito.io,https://evil.example", false},
		{"our name as a prefix", site, "https://taquito.io.evil.example", false},
		{"our name as a suffix", site, "https://eviltaquito.io", false},
		{"sub-domain of an exact origin", site, "https://docs.taquito.io", false},
		{"space before", site, " https://taquito.io", false},
		{"null byte after", site, "https://taquito.io\x00", false},
		{"10 kB", site, site + strings.Repeat("a", 10_000), false},
		{"the list itself", site + "," + previews, site + "," + previews, false},
		{"the pattern's text", previews, previews, false},
		{"the port pattern's text", local, local, false},

		{"preview", previews, "https://3f2a.taquito-584.pages.dev", true},
		{"preview of one character", previews, "https://a.taquito-584.pages.dev", true},
		{"punycode preview", previews, "https://xn--bcher-kva.taquito-584.pages.dev", true},
		{"empty label", previews, "https://.taquito-584.pages.dev", false},
		{"no label", previews, "https://taquito-584.pages.dev", false},
		{"two labels", previews, "https://a.b.taquito-584.pages.dev", false},
		{"overlap of head and tail", "https://a*a.example.com", "https://a.example.com", false},
		{"nothing for the star", "https://a*b.example.com", "https://ab.example.com", false},
		{"another project", previews, "https://a.evil-584.pages.dev", false},
		{"project that ends like ours", previews, "https://a-taquito-584.pages.dev", false},
		{"preview over http", previews, "http://a.taquito-584.pages.dev", false},
		{"preview at a port", previews, "https://a.taquito-584.pages.dev:8443", false},
		{"preview with our host in a path", previews, "https://evil.example/.taquito-584.pages.dev", false},
		{"preview with our host in a query", previews, "https://evil.example?.taquito-584.pages.dev", false},
		{"preview with our host in a fragment", previews, "https://evil.example#.taquito-584.pages.dev", false},
		{"preview with a user", previews, "https://a@.taquito-584.pages.dev", false},
		{"preview with a port in the label", previews, "https://a:1.taquito-584.pages.dev", false},
		{"preview with a backslash", previews, `https://evil\.taquito-584.pages.dev`, false},
		{"preview with an underscore", previews, "https://a_b.taquito-584.pages.dev", false},
		{"preview with a capital", previews, "https://A.taquito-584.pages.dev", false},
		{"preview beyond ASCII", previews, "https://ü.taquito-584.pages.dev", false},
		{"preview with a line break", previews, "https://a\n.taquito-584.pages.dev", false},
		{"preview with a percent", previews, "https://%2e.taquito-584.pages.dev", false},
		{"hyphen at the label's start", previews, "https://-a.taquito-584.pages.dev", false},
		{"hyphen at the label's end", previews, "https://a-.taquito-584.pages.dev", false},
		{"longest label", previews, "https://" + label(63) + ".taquito-584.pages.dev", true},
		{"label too long", previews, "https://" + label(64) + ".taquito-584.pages.dev", false},
		{"label too long with its piece", "https://pr-*.example.com", "https://pr-" + label(61) + ".example.com", false},
		{"longest host", "https://*." + hostOf(251), "https://a." + hostOf(251), true},
		{"host too long", "https://*." + hostOf(251), "https://aa." + hostOf(251), false},
		{"longest host at a port", "http://*." + hostOf(251) + ":8080", "http://a." + hostOf(251) + ":8080", true},
		{"host too long at a port", "http://*." + hostOf(251) + ":8080", "http://aa." + hostOf(251) + ":8080", false},
		{"10 kB preview", previews, "https://" + label(10_000) + ".taquito-584.pages.dev", false},

		{"channel", channels, "https://my-site--pr1-abc.web.app", true},
		{"another channel scheme", channels, "http://my-site--pr1-abc.web.app", false},
		{"site name with more after a hyphen", channels, "https://my-site-evil.web.app", false},
		{"channel without a name", channels, "https://my-site--.web.app", false},
		{"channel that ends in a hyphen", channels, "https://my-site--a-.web.app", false},
		{"sub-domain of a channel", channels, "https://my-site--a.evil.web.app", false},
		{"branch", branches, "https://feature-x--my-site.netlify.app", true},
		{"punycode that ends like our branches", branches, "https://xn--my-site.netlify.app", false},
		{"punycode label with our piece", branches, "https://xn--a--my-site.netlify.app", false},
		{"punycode through a piece before", "https://x*.example.com", "https://xn--a.example.com", false},
		{"punycode through pieces before and after", "https://x*-a.example.com", "https://xn---a.example.com", false},
		{"inner label", "https://docs.*.example.com", "https://docs.v2.example.com", true},
		{"deeper inner label", "https://docs.*.example.com", "https://docs.v2.evil.example.com", false},
		{"pattern at a port", "http://*.example.com:8080", "http://a.example.com:8080", true},
		{"pattern's port left out", "http://*.example.com:8080", "http://a.example.com", false},
		{"pattern at another port", "http://*.example.com:8080", "http://a.example.com:8081", false},
		{"second of two patterns", channels + "," + previews, "https://a.taquito-584.pages.dev", true},

		{"localhost without a port", local, "http://localhost", true},
		{"localhost at a port", local, "http://localhost:4321", true},
		{"localhost at the lowest port", local, "http://localhost:1", true},
		{"localhost at the highest port", local, "http://localhost:65535", true},
		{"localhost at http's default port", local, "http://localhost:80", false},
		{"localhost at https' default port", local, "http://localhost:443", true},
		{"localhost over TLS at its default port", "https://localhost:*", "https://localhost:443", false},
		{"localhost at port 0", local, "http://localhost:0", false},
		{"localhost at a port with a leading zero", local, "http://localhost:08080", false},
		{"localhost at a port too high", local, "http://localhost:65536", false},
		{"localhost at a port of six digits", local, "http://localhost:100000", false},
		{"localhost with a bare colon", local, "http://localhost:", false},
		{"localhost at a port in words", local, "http://localhost:http", false},
		{"localhost as a user", local, "http://localhost:1@evil.example", false},
		{"localhost with a path", local, "http://localhost:1/", false},
		{"name that begins with localhost", local, "http://localhost.evil.example", false},
		{"name that begins with localhost, no dot", local, "http://localhosted:1", false},
		{"localhost over TLS", local, "https://localhost:4321", false},
		{"IPv6 loopback at a port", "http://[::1]:*", "http://[::1]:4321", true},
		{"IPv6 loopback without a port", "http://[::1]:*", "http://[::1]", true},
		{"longer IPv6 address", "http://[::1]:*", "http://[::1:2]", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := mustParse(t, tt.list).Allows(tt.origin); got != tt.want {
				t.Errorf("Parse(%q).Allows(%q) = %t, want %t", tt.list, tt.origin, got, tt.want)
			}
		})
	}
}

func TestAllows_ZeroList(t *testing.T) {
	t.Parallel()

	var l origin.List
	for _, o := range []string{"", "null", "*", "https://taquito.io", "http://localhost:1"} {
		if l.Allows(o) {
			t.Errorf("the zero List allows %q", o)
		}
	}
	if diff := cmp.Diff("", l.String()); diff != "" {
		t.Errorf("String (-want +got):\n%s", diff)
	}
}

func TestWellFormed(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name, origin string
		want         bool
	}{
		{"site", "https://taquito.io", true},
		{"port", "http://localhost:4321", true},
		{"IPv6", "http://[::1]:4321", true},
		{"default port", "https://taquito.io:443", true},
		{"capitals", "https://Taquito.IO", true},
		{"dot at the end", "https://taquito.io.", true},
		{"underscore", "https://my_docs.taquito.io", true},
		{"longest", "https://" + hostOf(253) + ":65535", true},
		{"too long", "https://" + hostOf(254) + ":65535", false},
		{"10 kB", "https://" + strings.Repeat("a", 10_000), false},
		{"no header", "", false},
		{"sandboxed frame", "null", false},
		{"another scheme", "ftp://taquito.io", false},
		{"scheme alone", "https://", false},
		{"user", "https://taquito.io@evil.example", false},
		{"password", "https://user:secret@taquito.io", false},
		{"path", "https://taquito.io/", false},
		{"query", "https://taquito.io?token=secret", false},
		{"fragment", "https://taquito.io#a", false},
		{"line break after", "https://taquito.io\n", false},
		{"line break before", "\nhttps://taquito.io", false},
		{"forged log record", "https://taquito.io\",\"severity\":\"ERROR", false},
		{"escape sequence", "https://taquito.io\x1b[2J", false},
		{"two origins", "https://taquito.io https://evil.example", false},
		{"beyond ASCII", "https://bücher.example", false},
		{"star", "https://*.taquito.io", false},
		{"zone", "http://[fe80::1%eth0]", false},
		{"port of six digits", "https://taquito.io:100000", false},
		{"port in words", "https://taquito.io:secret", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := origin.WellFormed(tt.origin); got != tt.want {
				t.Errorf("WellFormed(%q) = %t, want %t", tt.origin, got, tt.want)
			}
		})
	}
}

// realList is a realistic list. questions are the origins that the tests and
// benchmarks look up in it.
const realList = "https://taquito.io,https://taquito-584.pages.dev,https://*.taquito-584.pages.dev," +
	"https://my-site--*.web.app,http://localhost:*,http://127.0.0.1:*"

var questions = []struct {
	name, origin string
	want         bool
}{
	{"exact hit", "https://taquito.io", true},
	{"pattern hit", "https://3f2a.taquito-584.pages.dev", true},
	{"port hit", "http://localhost:4321", true},
	{"miss", "https://evil.example.com", false},
	{"near miss", "https://my-site--a_b.web.app", false},
	{"port miss", "http://localhost:65536x", false},
	{"10 kB miss", "https://" + strings.Repeat("a", 10_000) + ".taquito-584.pages.dev", false},
}

// A client can send any Origin as often as it likes, so Allows must not allocate.
//
//nolint:paralleltest // AllocsPerRun counts the allocations of the whole process.
func TestAllows_Allocations(t *testing.T) {
	l := mustParse(t, realList)
	for _, q := range questions {
		if n := testing.AllocsPerRun(100, func() { l.Allows(q.origin) }); n != 0 {
			t.Errorf("%s: %v allocations, want none", q.name, n)
		}
	}
}

func BenchmarkAllows(b *testing.B) {
	l := mustParse(b, realList)
	for _, q := range questions {
		b.Run(q.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if l.Allows(q.origin) != q.want {
					b.Fatalf("Allows(%.80q) is not %t", q.origin, q.want)
				}
			}
		})
	}
}
