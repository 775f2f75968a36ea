package main_test

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// undatedCookie is a cookie of the first format, signed with testIdentity for
// the visitor V.
const undatedCookie = "__session=V.Zesrzht8ILp9cTJiPqr1w9m00PpHzoU-YFXAG9P73mE"

// cookieFormat is that of the cookies that are issued.
var cookieFormat = regexp.MustCompile(`^vc_[A-Z0-9]+\.\d{10}\.\d{10}\.[\w-]{43}$`)

func TestVisitorCookie(t *testing.T) {
	t.Parallel()
	d := start(t, "RATE_LIMIT_PER_MINUTE=1000")
	// user sends cookies and returns the user that OpenAI was given, and the new cookie.
	user := func(t *testing.T, cookies ...string) (string, *http.Cookie) {
		t.Helper()
		before := len(d.openai.Asked())
		r := d.ask(t, http.MethodPost, sessionPath, func(r *http.Request) {
			if len(cookies) > 0 {
				r.Header.Set("Cookie", strings.Join(cookies, "; "))
			}
		})
		if r.StatusCode != http.StatusOK || len(r.Cookies()) != 1 {
			t.Fatalf("%d %s, cookies %v", r.StatusCode, r.body, r.Cookies())
		}
		return d.openai.Asked()[before].User, r.Cookies()[0]
	}
	first, cookie := user(t)
	second, other := user(t)
	if first == second {
		t.Fatal("two visitors have one ID")
	}
	if len(first) < 22 || strings.Contains(first, ".") {
		t.Errorf("ID %q is too guessable", first)
	}
	mine, theirs := cookie.Name+"="+cookie.Value, other.Name+"="+other.Value
	swapped := "__session=" + strings.Replace(cookie.Value, first, second, 1)
	tests := []struct {
		name    string
		cookies []string
		want    string // "" for a new ID.
	}{
		{"sent back", []string{mine}, first},
		{"behind the site's own of that name", []string{"__session=eyJhbGciOi.J9.abc", mine}, first},
		{"twice", []string{mine, mine}, first},
		{"in the first format", []string{undatedCookie}, "V"},
		{"planted before the visitor's own", []string{theirs, mine}, ""},
		{"planted after the visitor's own", []string{mine, theirs}, ""},
		{"planted in the first format", []string{undatedCookie, mine}, ""},
		{"forged", []string{"__session=vc_" + first + ".1.9999999999.AAAA"}, ""},
		{"another visitor's ID with one's own signature", []string{swapped}, ""},
		{"ID without a signature", []string{"__session=" + first}, ""},
		{"empty signature", []string{mine[:strings.LastIndex(mine, ".")+1]}, ""},
		{"empty", []string{"__session="}, ""},
		{"a dot", []string{"__session=."}, ""},
		{"under another name", []string{"session=" + cookie.Value}, ""},
	}
	for _, tt := range tests {
		got, renewed := user(t, tt.cookies...)
		if tt.want != "" && got != tt.want {
			t.Errorf("%s: user %q, want %q", tt.name, got, tt.want)
		}
		if tt.want == "" && (got == first || got == second || got == "V") {
			t.Errorf("%s: trusted", tt.name)
		}
		if again, _ := user(t, renewed.Name+"="+renewed.Value); again != got {
			t.Errorf("%s: the cookie that was set is for %q, not for %q", tt.name, again, got)
		}
		if !cookieFormat.MatchString(renewed.Value) {
			t.Errorf("%s: the cookie that was set is %q, want the dated format", tt.name, renewed.Value)
		}
	}
}

func TestVisitorCookie_Attributes(t *testing.T) {
	t.Parallel()
	d := start(t)
	lax := http.Cookie{Name: "__session", Path: "/api/chatkit", MaxAge: 2592000, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode}
	none := lax
	none.SameSite, none.Partitioned = http.SameSiteNoneMode, true
	for site, want := range map[string]http.Cookie{"": lax, "same-origin": lax, "same-site": lax, "cross-site": none, "garbage": lax} {
		t.Run(site, func(t *testing.T) {
			t.Parallel()
			r := d.ask(t, http.MethodPost, sessionPath, header("Sec-Fetch-Site", site))
			if diff := cmp.Diff(&want, r.Cookies()[0], cmpopts.IgnoreFields(http.Cookie{}, "Value", "Raw")); diff != "" {
				t.Errorf("cookie (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVisitorCookie_Restart(t *testing.T) {
	t.Parallel()
	a, b := start(t), start(t)
	cookie := a.ask(t, http.MethodPost, sessionPath).Cookies()[0]
	b.ask(t, http.MethodPost, sessionPath, func(r *http.Request) { r.AddCookie(cookie) })
	if x, y := a.openai.Asked()[0].User, b.openai.Asked()[0].User; x != y {
		t.Errorf("users %q and %q, want the same", x, y)
	}
	c := start(t, "IDENTITY_KEY=another-identity-key-for-tests-32-bytes-or-more")
	c.ask(t, http.MethodPost, sessionPath, func(r *http.Request) { r.AddCookie(cookie) })
	if x, y := a.openai.Asked()[0].User, c.openai.Asked()[0].User; x == y {
		t.Error("a cookie signed with another key was trusted")
	}
}

// tokenFormat is that of the visitor tokens that are issued.
var tokenFormat = regexp.MustCompile(`^vt_[A-Z0-9]+\.\d{10}\.\d{10}\.[\w-]{43}$`)

// sending sets the body as a page does that sends a string.
func sending(text string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Content-Type", "text/plain;charset=UTF-8")
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	}
}

func TestVisitorToken(t *testing.T) {
	t.Parallel()
	const elsewhere = "https://blog.example.com"
	d := start(t, "RATE_LIMIT_PER_MINUTE=1000", "ALLOWED_ORIGINS="+testOrigin+","+elsewhere)
	// visit starts a session from a page on another site. It returns the user that
	// OpenAI was given, and the answer.
	visit := func(t *testing.T, change ...func(*http.Request)) (string, reply) {
		t.Helper()
		before := len(d.openai.Asked())
		r := d.ask(t, http.MethodPost, sessionPath, append([]func(*http.Request){header("Sec-Fetch-Site", "cross-site")}, change...)...)
		if r.StatusCode != http.StatusOK || !tokenFormat.MatchString(r.Visitor) || len(r.Cookies()) != 1 {
			t.Fatalf("%d %s, cookies %v", r.StatusCode, r.body, r.Cookies())
		}
		return d.openai.Asked()[before].User, r
	}
	mine, first := visit(t)
	theirs, other := visit(t)
	tests := []struct {
		name   string
		change []func(*http.Request)
		want   string // "" for a new ID.
	}{
		{"sent back", []func(*http.Request){sending(first.Visitor)}, mine},
		{"with another visitor's cookie", []func(*http.Request){sending(first.Visitor), header("Cookie", "__session="+other.Cookies()[0].Value)}, mine},
		{"with an undated cookie of another visitor", []func(*http.Request){sending(first.Visitor), header("Cookie", undatedCookie)}, mine},
		{"cut, with a cookie", []func(*http.Request){sending(first.Visitor[:60]), header("Cookie", "__session="+other.Cookies()[0].Value)}, theirs},
		{"from another page", []func(*http.Request){sending(first.Visitor), header("Origin", elsewhere)}, ""},
		{"another visitor's ID with one's own signature", []func(*http.Request){sending(strings.Replace(first.Visitor, mine, theirs, 1))}, ""},
		{"as JSON", []func(*http.Request){sending(first.Visitor), header("Content-Type", "application/json")}, ""},
		{"in the cookie", []func(*http.Request){header("Cookie", "__session="+first.Visitor)}, ""},
		{"the cookie's value as a token", []func(*http.Request){sending(first.Cookies()[0].Value)}, ""},
		{"the visitor's ID alone", []func(*http.Request){sending(mine)}, ""},
	}
	for _, tt := range tests {
		got, r := visit(t, tt.change...)
		if tt.want != "" && got != tt.want || tt.want == "" && (got == mine || got == theirs || got == "V") {
			t.Errorf("%s: user %q, want %q", tt.name, got, tt.want)
		}
		if !strings.HasPrefix(r.Visitor, "vt_"+got+".") || !strings.HasPrefix(r.Cookies()[0].Value, "vc_"+got+".") {
			t.Errorf("%s: the answer renews %q and %q, want both for %q", tt.name, r.Visitor, r.Cookies()[0].Value, got)
		}
	}
	for _, leak := range []string{mine, theirs, "vt_", "vc_"} {
		if strings.Contains(d.output.String(), leak) {
			t.Errorf("the process wrote %q:\n%s", leak, d.output)
		}
	}
}

func TestVisitorToken_OnlyForOtherSites(t *testing.T) {
	t.Parallel()
	d := start(t, "RATE_LIMIT_PER_MINUTE=1000")
	for _, site := range []string{"same-origin", "same-site", "none", "garbage", ""} {
		if r := d.ask(t, http.MethodPost, sessionPath, header("Sec-Fetch-Site", site)); strings.Contains(r.body, "visitor") {
			t.Errorf("Sec-Fetch-Site %q: %s", site, r.body)
		}
	}
	if r := d.ask(t, http.MethodPost, sessionPath); strings.Contains(r.body, "visitor") {
		t.Errorf("without Sec-Fetch-Site: %s", r.body)
	}
}

func TestVisitorToken_Restart(t *testing.T) {
	t.Parallel()
	a, b := start(t), start(t)
	c := start(t, "IDENTITY_KEY=another-identity-key-for-tests-32-bytes-or-more")
	token := a.ask(t, http.MethodPost, sessionPath, header("Sec-Fetch-Site", "cross-site")).Visitor
	b.ask(t, http.MethodPost, sessionPath, sending(token))
	c.ask(t, http.MethodPost, sessionPath, sending(token))
	user := a.openai.Asked()[0].User
	if got := b.openai.Asked()[0].User; got != user {
		t.Errorf("user %q on another instance, want %q", got, user)
	}
	if c.openai.Asked()[0].User == user {
		t.Error("a token signed with another key was trusted")
	}
}
