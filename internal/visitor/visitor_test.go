package visitor_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"docent/internal/visitor"
)

// page is where the visitor tokens of the tests are used.
const page = "https://docs.example.com"

var (
	keys = visitor.Keys{Tokens: []byte("a key for the tests of tokens"), Undated: []byte("a key for cookies of the first format")}
	noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
)

func at(t time.Time) *visitor.Signer {
	return visitor.NewSigner(keys, "/", func() time.Time { return t })
}

// request returns one with these values of the cookie, in this order.
func request(cookies ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	for _, c := range cookies {
		r.Header.Add("Cookie", visitor.CookieName+"="+c)
	}
	return r
}

// issue returns the cookie that a visitor is given.
func issue(id string) string { return at(noon).Cookie(request(), id).Value }

func mac(key []byte, text string) string {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// from returns a request of a page, with these values of the cookie.
func from(origin string, cookies ...string) *http.Request {
	r := request(cookies...)
	r.Header.Set("Origin", origin)
	return r
}

// undated returns a cookie of the first format.
func undated(id string) string { return id + "." + mac(keys.Undated, id) }

func TestID(t *testing.T) {
	t.Parallel()
	const second = time.Second
	signed := func(text string) string { return text + "." + mac(keys.Tokens, text) }
	mine, theirs := issue("MINE"), issue("THEIRS")
	flipped := mine[:len(mine)-1] + "A"
	if flipped == mine {
		flipped = mine[:len(mine)-1] + "B"
	}
	tests := []struct {
		name    string
		cookies []string
		after   time.Duration
		want    string // "" for a new ID.
	}{
		{"issued", []string{mine}, 0, "MINE"},
		{"in its last second", []string{mine}, visitor.Lifetime - second, "MINE"},
		{"expired", []string{mine}, visitor.Lifetime, ""},
		{"by an instance whose clock is ahead", []string{mine}, -time.Minute, "MINE"},
		{"twice the same", []string{mine, mine}, 0, "MINE"},
		{"two of one visitor", []string{at(noon.Add(second)).Cookie(request(), "MINE").Value, mine}, 0, "MINE"},
		{"behind the site's own of that name", []string{"eyJhbGciOi.J9.abc", mine}, 0, "MINE"},
		{"before a forged one", []string{mine, "vc_THEIRS.1.9999999999.AAAA"}, 0, "MINE"},
		{"with an expired one of another visitor", []string{at(noon.Add(-visitor.Lifetime)).Cookie(request(), "THEIRS").Value, mine}, 0, "MINE"},
		{"planted before", []string{theirs, mine}, 0, ""},
		{"planted after", []string{mine, theirs}, 0, ""},
		{"planted twice", []string{theirs, mine, theirs}, 0, ""},
		{"planted in the first format", []string{undated("THEIRS"), mine}, 0, ""},
		{"first format", []string{undated("MINE")}, 0, "MINE"},
		{"first format with its renewal", []string{undated("MINE"), mine}, 0, "MINE"},
		{"first format, forged", []string{"MINE." + mac(keys.Tokens, "MINE")}, 0, ""},
		{"first format, empty ID", []string{undated("")}, 0, ""},
		{"last character changed", []string{flipped}, 0, ""},
		{"MAC cut short", []string{mine[:len(mine)-1]}, 0, ""},
		{"MAC padded", []string{mine + "="}, 0, ""},
		{"no MAC", []string{strings.TrimRight(mine[:strings.LastIndex(mine, ".")], ".")}, 0, ""},
		{"another ID before one's own MAC", []string{strings.Replace(mine, "MINE", "THEIRS", 1)}, 0, ""},
		{"later expiry before one's own MAC", []string{strings.Replace(mine, ".179", ".279", 2)}, 0, ""},
		{"a signed session token", []string{signed("ds_MINE.1795521600.1798113600")}, 0, ""},
		{"a signed visitor token", []string{signed("vt_MINE.1795521600.1798113600")}, 0, ""},
		{"signed without a purpose", []string{signed("MINE.1795521600.1798113600")}, 0, ""},
		{"signed without times", []string{signed("vc_MINE")}, 0, ""},
		{"signed with one time", []string{signed("vc_MINE.1798113600")}, 0, ""},
		{"signed with a field too many", []string{signed("vc_MINE.1795521600.1798113600.1798113600")}, 0, ""},
		{"signed with an expiry that is not a number", []string{signed("vc_MINE.1.never")}, 0, ""},
		{"by another key", []string{visitor.NewSigner(visitor.Keys{Tokens: []byte("another key")}, "/", func() time.Time { return noon }).Cookie(request(), "MINE").Value}, 0, ""},
		{"empty", []string{""}, 0, ""},
		{"dots", []string{"..."}, 0, ""},
		{"none", nil, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := at(noon.Add(tt.after))
			got := s.ID(request(tt.cookies...), "")
			if tt.want != "" && got != tt.want {
				t.Errorf("ID = %q, want %q", got, tt.want)
			}
			if tt.want == "" && (len(got) < 26 || got == s.ID(request(tt.cookies...), "")) {
				t.Errorf("ID = %q, want a new one of 128 random bits", got)
			}
		})
	}
}

// FuzzID looks for a cookie that is trusted although it was not issued. Its
// seeds try what an attacker would: with the signature unchecked, or checked
// against another text, the test fails on them alone.
func FuzzID(f *testing.F) {
	s := at(noon)
	visitors := map[string]string{issue("ID"): "ID", undated("ID"): "ID", issue("OTHER"): "OTHER"}
	for cookie := range visitors {
		f.Add("__session=" + cookie)
		f.Add("__session=AAAA.BBBB; __session=" + cookie)
		f.Add("__session=" + strings.Replace(strings.Replace(cookie, "ID", "mallory", 1), "OTHER", "mallory", 1))
		f.Add("__session=mallory" + cookie[strings.LastIndex(cookie, "."):])
		f.Add("__session=" + cookie + "; __session=vc_mallory.1.9999999999.AAAA")
	}
	f.Add("__session=mallory.AAAA")
	f.Add("__session=mallory." + mac(keys.Tokens, "mallory"))
	f.Add("__session=vc_mallory.1.9999999999." + mac(keys.Undated, "vc_mallory.1.9999999999"))
	f.Add("__session=vc_mallory.1.9999999999.")
	f.Fuzz(func(t *testing.T, cookies string) {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.Header.Set("Cookie", cookies)
		sent := map[string]bool{} // The visitors whose cookies were issued and sent.
		for _, c := range r.CookiesNamed(visitor.CookieName) {
			if id, ok := visitors[c.Value]; ok {
				sent[id] = true
			}
		}
		id := s.ID(r, "")
		switch {
		case len(sent) == 1 && !sent[id]:
			t.Errorf("%q made the ID %q, want one of %v", cookies, id, sent)
		case len(sent) != 1 && id == s.ID(r, ""):
			t.Errorf("%q made the ID %q twice, although it is not of one visitor", cookies, id)
		}
		r.Header.Set("Cookie", s.Cookie(r, id).String())
		if again := s.ID(r, ""); again != id {
			t.Errorf("the cookie for %q is for %q", id, again)
		}
	})
}

// kind is a kind of token: how it is issued, and who is recognised by it.
type kind struct {
	purpose string
	ttl     time.Duration
	issue   func(s *visitor.Signer, id string) string
	// open returns "" for a token that is not accepted.
	open func(s *visitor.Signer, token string) (id string)
}

// issued are the IDs in the tests' tokens. Any other ID is a new one.
var issued = map[string]bool{"MINE": true, "THEIRS": true}

func recognised(id string) string {
	if issued[id] {
		return id
	}
	return ""
}

func kinds() map[string]kind {
	return map[string]kind{
		"cookie": {
			"vc_", visitor.Lifetime,
			func(s *visitor.Signer, id string) string { return s.Cookie(from(page), id).Value },
			func(s *visitor.Signer, token string) string { return recognised(s.ID(from(page, token), "")) },
		},
		"visitor token": {
			"vt_", visitor.Lifetime,
			func(s *visitor.Signer, id string) string { return s.Token(from(page), id) },
			func(s *visitor.Signer, token string) string { return recognised(s.ID(from(page), token)) },
		},
		"session token": {
			"ds_", 10 * time.Minute,
			func(s *visitor.Signer, id string) string {
				token, _ := s.Session(id, 10*time.Minute)
				return token
			},
			func(s *visitor.Signer, token string) string {
				id, _ := s.OpenSession(token)
				return id
			},
		},
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	for name, k := range kinds() {
		mine := k.issue(at(noon), "MINE")
		text := mine[:strings.LastIndexByte(mine, '.')]
		// signed returns a text with a MAC that is right for this kind of token.
		signed := func(text string) string {
			if k.purpose == "vt_" {
				return text + "." + mac(keys.Tokens, text+"\n"+page)
			}
			return text + "." + mac(keys.Tokens, text)
		}
		elsewhere := visitor.NewSigner(visitor.Keys{Tokens: []byte("another key"), Undated: keys.Undated}, "/", func() time.Time { return noon })
		tests := []struct {
			name  string
			token string
			after time.Duration
			want  string // "" where it is not accepted.
		}{
			{"issued", mine, 0, "MINE"},
			{"signed by the test", signed(text), 0, "MINE"},
			{"in its last second", mine, k.ttl - time.Second, "MINE"},
			{"expired", mine, k.ttl, ""},
			{"by an instance whose clock is ahead", mine, -time.Minute, "MINE"},
			{"by another key", k.issue(elsewhere, "MINE"), 0, ""},
			{"last character cut", mine[:len(mine)-1], 0, ""},
			{"first character cut", mine[1:], 0, ""},
			{"MAC cut", text + ".", 0, ""},
			{"without a MAC", text, 0, ""},
			{"MAC padded", mine + "=", 0, ""},
			{"another spelling of the MAC", mine[:len(mine)-1] + string(mine[len(mine)-1]+1), 0, ""},
			{"a character more at the beginning", "x" + mine, 0, ""},
			{"a character more at the end", mine + "A", 0, ""},
			{"purpose in upper case", strings.ToUpper(k.purpose) + mine[len(k.purpose):], 0, ""},
			{"another ID before its MAC", strings.Replace(mine, "MINE", "THEIRS", 1), 0, ""},
			{"a later expiry before its MAC", strings.Replace(mine, ".179", ".279", 2), 0, ""},
			{"forged", k.purpose + "MINE.1.9999999999.AAAA", 0, ""},
			{"a dot more at the end", mine + ".", 0, ""},
			{"a dot more before the MAC", text + "." + mine[len(text):], 0, ""},
			{"signed with a field too many", signed(k.purpose + "MINE.1795521600.1798113600.1798113600"), 0, ""},
			{"signed with a field too few", signed(k.purpose + "MINE.1798113600"), 0, ""},
			{"signed without an ID", signed(k.purpose + ".1795521600.1798113600"), 0, ""},
			{"signed with an expiry that is not a number", signed(k.purpose + "MINE.1.never"), 0, ""},
			{"signed without a purpose", signed("MINE.1795521600.1798113600"), 0, ""},
			{"dots", "....", 0, ""},
			{"purpose alone", k.purpose, 0, ""},
			{"empty", "", 0, ""},
			{"10 kB", k.purpose + strings.Repeat("A", 10_000) + mine[len(k.purpose):], 0, ""},
			{"10 kB of dots", k.purpose + strings.Repeat(".", 10_000) + mine[len(k.purpose):], 0, ""},
		}
		for _, other := range []string{"vc_", "vt_", "ds_", ""} {
			if other != k.purpose {
				tests = append(tests, struct {
					name, token string
					after       time.Duration
					want        string
				}{"signed for the purpose " + other, signed(other + "MINE.1795521600.1798113600"), 0, ""})
			}
		}
		for _, tt := range tests {
			t.Run(name+" "+tt.name, func(t *testing.T) {
				t.Parallel()
				if got := k.open(at(noon.Add(tt.after)), tt.token); got != tt.want {
					t.Errorf("visitor %q, want %q", got, tt.want)
				}
			})
		}
	}
}

func TestTokens_OtherKind(t *testing.T) {
	t.Parallel()
	for issuer, from := range kinds() {
		for reader, to := range kinds() {
			token := from.issue(at(noon), "MINE")
			if accepted := to.open(at(noon), token) != ""; accepted != (issuer == reader) {
				t.Errorf("a %s as a %s: accepted is %v", issuer, reader, accepted)
			}
		}
	}
}

// lastDot returns the end of a token, from its last dot.
func lastDot(token string) string { return token[strings.LastIndexByte(token, '.'):] }

func TestID_VisitorToken(t *testing.T) {
	t.Parallel()
	s := at(noon)
	mine := s.Token(from(page), "MINE")
	theirs := s.Token(from(page), "THEIRS")
	tests := []struct {
		name    string
		origin  string
		token   string
		cookies []string
		want    string // "" for a new ID.
	}{
		{"alone", page, mine, nil, "MINE"},
		{"with the same visitor's cookie", page, mine, []string{issue("MINE")}, "MINE"},
		{"with another visitor's cookie", page, mine, []string{issue("THEIRS")}, "MINE"},
		{"with cookies that disagree", page, mine, []string{issue("MINE"), issue("THEIRS")}, "MINE"},
		{"with a cookie of the first format", page, mine, []string{undated("THEIRS")}, "MINE"},
		{"forged, with a cookie", page, theirs + "A", []string{issue("MINE")}, "MINE"},
		{"forged, with cookies that disagree", page, theirs + "A", []string{issue("MINE"), issue("THEIRS")}, ""},
		{"of another page", "https://other.example.com", mine, nil, ""},
		{"of another page, with a cookie", "https://other.example.com", theirs, []string{issue("MINE")}, "MINE"},
		{"of the same host with another scheme", "http://docs.example.com", mine, nil, ""},
		{"of the same host with another port", page + ":8443", mine, nil, ""},
		{"of a page whose origin is longer", page + ".evil.example", mine, nil, ""},
		{"without an origin", "", mine, nil, ""},
		{"with the origin in the token", "", strings.Replace(mine, lastDot(mine), "\n"+page+lastDot(mine), 1), nil, ""},
		{"a cookie as a token", page, issue("MINE"), nil, ""},
		{"a cookie of the first format as a token", page, undated("MINE"), nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := s.ID(from(tt.origin, tt.cookies...), tt.token)
			if recognised(got) != tt.want {
				t.Errorf("ID = %q, want %q", got, tt.want)
			}
			if tt.want == "" && len(got) < 26 {
				t.Errorf("ID = %q, want a new one of 128 random bits", got)
			}
		})
	}
}

// A session's expiry is a whole second, and the answer says the one that holds.
func TestSession_Expiry(t *testing.T) {
	t.Parallel()
	begin := noon.Add(700 * time.Millisecond)
	token, expires := at(begin).Session("MINE", 10*time.Minute)
	if want := noon.Add(10 * time.Minute); !expires.Equal(want) {
		t.Errorf("it expires at %s, want %s", expires, want)
	}
	if _, ok := at(expires.Add(-1)).OpenSession(token); !ok {
		t.Error("it is not accepted right before it expires")
	}
	if _, ok := at(expires).OpenSession(token); ok {
		t.Error("it is accepted when it has expired")
	}
}

// FuzzTokens looks for a text that is accepted although it was not issued. A change
// to any character of a token, for example another spelling of its MAC, is such a
// text.
func FuzzTokens(f *testing.F) {
	kinds, s := kinds(), at(noon)
	sealed := map[string]string{}
	for name, k := range kinds {
		sealed[name] = k.issue(s, "MINE")
	}
	for _, token := range sealed {
		for i := range token {
			f.Add(token, i, byte(1))
			f.Add(token, i, byte(0x20))
		}
		f.Add(token+".", 0, byte(0))
		f.Add(token[3:], 0, byte(0))
		f.Add(strings.Replace(token, "MINE", "THEIRS", 1), 0, byte(0))
	}
	f.Add("", 0, byte(0))
	f.Fuzz(func(t *testing.T, token string, at int, flip byte) {
		changed := []byte(token)
		if at >= 0 && at < len(changed) {
			changed[at] ^= flip
		}
		for name, k := range kinds {
			if name == "cookie" { // Only where the header has exactly this text as the cookie's value.
				if c, err := from(page, string(changed)).Cookie(visitor.CookieName); err != nil || c.Value != string(changed) {
					continue
				}
			}
			got := k.open(s, string(changed))
			if string(changed) == sealed[name] {
				if got != "MINE" {
					t.Errorf("the %s %q is for %q, want MINE", name, changed, got)
				}
			} else if got != "" {
				t.Errorf("%q, which was not issued, is accepted as a %s of %q", changed, name, got)
			}
		}
	})
}
