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
		{"signed with a field too many", []string{signed("vc_MINE.1.2.1798113600")}, 0, ""},
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
			got := s.ID(request(tt.cookies...))
			if tt.want != "" && got != tt.want {
				t.Errorf("ID = %q, want %q", got, tt.want)
			}
			if tt.want == "" && (len(got) < 26 || got == s.ID(request(tt.cookies...))) {
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
	issued := map[string]string{issue("ID"): "ID", undated("ID"): "ID", issue("OTHER"): "OTHER"}
	for cookie := range issued {
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
			if id, ok := issued[c.Value]; ok {
				sent[id] = true
			}
		}
		id := s.ID(r)
		switch {
		case len(sent) == 1 && !sent[id]:
			t.Errorf("%q made the ID %q, want one of %v", cookies, id, sent)
		case len(sent) != 1 && id == s.ID(r):
			t.Errorf("%q made the ID %q twice, although it is not of one visitor", cookies, id)
		}
		r.Header.Set("Cookie", s.Cookie(r, id).String())
		if again := s.ID(r); again != id {
			t.Errorf("the cookie for %q is for %q", id, again)
		}
	})
}
