package httpapi_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"docent/internal/hosted"
	"docent/internal/httpapi"
	"docent/internal/visitor"
)

// visitors is a site without a limit, with what it made of the visitors.
type visitors struct {
	*site

	users []string // Of the hosted sessions.
}

func serveVisitors(t *testing.T, change ...func(*httpapi.Options)) *visitors {
	t.Helper()
	v := &visitors{}
	v.site = serve(t, append([]func(*httpapi.Options){anyone, docs, func(o *httpapi.Options) {
		o.Minter = minter(func(_ context.Context, user string) (hosted.Session, error) {
			v.users = append(v.users, user)
			return hosted.Session{ClientSecret: "ek_secret", ExpiresAt: noon.Add(10 * time.Minute)}, nil
		})
	}}, change...)...)
	return v
}

// visit returns the visitor's ID in the session that a request starts with a
// backend, and the answer.
func (v *visitors) visit(t *testing.T, api string, change ...func(*http.Request)) (string, answer) {
	t.Helper()
	a := v.start(t, "api="+api, change...)
	if a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Code)
	}
	if api == "any" {
		return v.users[len(v.users)-1], a
	}
	id, ok := signer(v.site).OpenSession(a.Token)
	if !ok {
		t.Fatalf("the token %q does not open", a.Token)
	}
	return id, a
}

// browser returns a request of a page, as the signer sees it.
func browser(origin string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.Header.Set("Origin", origin)
	return r
}

// send sets a body of a type.
func send(contentType, body string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header["Content-Type"] = []string{contentType}
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
}

// text is the type that browsers send with a string.
const text = "text/plain;charset=UTF-8"

// inChunks hides the length of the body.
func inChunks(r *http.Request) { r.ContentLength = -1 }

func TestSession_VisitorTokenInAnswer(t *testing.T) {
	t.Parallel()
	v := serveVisitors(t)
	for _, api := range []string{"any", "docs"} {
		for site, want := range map[string]bool{"": false, "same-origin": false, "same-site": false, "none": false, "Cross-Site": false, "cross-site": true} {
			id, a := v.visit(t, api, header("Sec-Fetch-Site", site))
			if got := a.Visitor != ""; got != want {
				t.Errorf("api=%s, Sec-Fetch-Site %q: visitor %q, want one: %v", api, site, a.Visitor, want)
			}
			if want && signer(v.site).ID(browser(page), a.Visitor) != id {
				t.Errorf("api=%s: the visitor token %q is not for %q", api, a.Visitor, id)
			}
		}
		if _, a := v.visit(t, api); a.Visitor != "" {
			t.Errorf("api=%s without Sec-Fetch-Site: visitor %q", api, a.Visitor)
		}
	}
}

func TestSession_VisitorToken(t *testing.T) {
	t.Parallel()
	v := serveVisitors(t)
	s := signer(v.site)
	mine := s.Token(browser(page), "MINE")
	cookie := func(id string) string { return visitor.CookieName + "=" + s.Cookie(browser(page), id).Value }
	session, _ := s.Session("MINE", time.Minute)
	// A token of n bytes for a visitor with a long ID.
	long := func(n int) (token, id string) {
		id = strings.Repeat("L", n-len(mine)+len("MINE"))
		return s.Token(browser(page), id), id
	}
	most, mostID := long(512)
	tooLong, _ := long(513)
	tests := []struct {
		name   string
		change []func(*http.Request)
		want   string // "" for a new visitor.
	}{
		{"token", []func(*http.Request){send(text, mine)}, "MINE"},
		{"token without a charset", []func(*http.Request){send("text/plain", mine)}, "MINE"},
		{"token, type in upper case", []func(*http.Request){send("TEXT/PLAIN", mine)}, "MINE"},
		{"token in chunks", []func(*http.Request){send(text, mine), inChunks}, "MINE"},
		{"token from the page itself", []func(*http.Request){send(text, mine), header("Sec-Fetch-Site", "same-origin")}, "MINE"},
		{"token and another visitor's cookie", []func(*http.Request){send(text, mine), header("Cookie", cookie("THEIRS"))}, "MINE"},
		{"token and cookies that disagree", []func(*http.Request){send(text, mine), header("Cookie", cookie("MINE")+"; "+cookie("THEIRS"))}, "MINE"},
		{"cookie alone", []func(*http.Request){header("Cookie", cookie("MINE"))}, "MINE"},
		{"forged token and a cookie", []func(*http.Request){send(text, "vt_THEIRS"+mine[7:]), header("Cookie", cookie("MINE"))}, "MINE"},
		{"forged token", []func(*http.Request){send(text, "vt_THEIRS"+mine[7:])}, ""},
		{"token of another origin", []func(*http.Request){send(text, mine), onPage("https://blog.example.com")}, ""},
		{"token of another origin and a cookie", []func(*http.Request){send(text, mine), onPage("https://blog.example.com"), header("Cookie", cookie("OTHER"))}, "OTHER"},
		{"cookie as a body", []func(*http.Request){send(text, s.Cookie(browser(page), "MINE").Value)}, ""},
		{"session token as a body", []func(*http.Request){send(text, session)}, ""},
		{"token with a line break", []func(*http.Request){send(text, mine+"\n")}, ""},
		{"512 bytes", []func(*http.Request){send(text, most)}, mostID},
		{"512 bytes in chunks", []func(*http.Request){send(text, most), inChunks}, mostID},
		{"513 bytes", []func(*http.Request){send(text, tooLong)}, ""},
		{"513 bytes in chunks", []func(*http.Request){send(text, tooLong), inChunks}, ""},
		{"token of 512 bytes before another byte, in chunks", []func(*http.Request){send(text, most+" "), inChunks}, ""},
		{"token before 1 MB", []func(*http.Request){send(text, mine+strings.Repeat(" ", 1<<20))}, ""},
		{"JSON", []func(*http.Request){send("application/json", mine)}, ""},
		{"HTML", []func(*http.Request){send("text/html", mine)}, ""},
		{"a type that begins with text/plain", []func(*http.Request){send("text/plainer", mine)}, ""},
		{"no type", []func(*http.Request){send("", mine)}, ""},
		{"a type that is not one", []func(*http.Request){send("text/plain;;=", mine)}, ""},
		{"empty", []func(*http.Request){send(text, ""), inChunks}, ""},
	}
	known := []string{"MINE", "THEIRS", "OTHER", mostID}
	for _, tt := range tests {
		for _, api := range []string{"any", "docs"} {
			id, a := v.visit(t, api, append([]func(*http.Request){header("Sec-Fetch-Site", "cross-site")}, tt.change...)...)
			if tt.want != "" && id != tt.want || tt.want == "" && (slices.Contains(known, id) || len(id) != 26) {
				t.Errorf("%s, api=%s: visitor %q, want %q", tt.name, api, id, tt.want)
			}
			r := httptest.NewRequest(http.MethodPost, "/", nil)
			for _, c := range tt.change {
				c(r)
			}
			origin := page
			if o := r.Header.Get("Origin"); o != "" {
				origin = o
			}
			if got := s.ID(browser(origin), a.Visitor); got != id {
				t.Errorf("%s, api=%s: the new token is for %q, want %q", tt.name, api, got, id)
			}
			if got := a.header.Get("Set-Cookie"); !strings.HasPrefix(got, visitor.CookieName+"=vc_"+id+".") {
				t.Errorf("%s, api=%s: the new cookie is %q, want one for %q", tt.name, api, got, id)
			}
		}
	}
	for _, leak := range []string{"MINE", "THEIRS", "OTHER", "vc_", "vt_", "ds_", "ek_", v.users[len(v.users)-1]} {
		if strings.Contains(v.written(), leak) {
			t.Errorf("the log has %q:\n%.2000s", leak, v.written())
		}
	}
}

// A token is renewed with each session, so that it does not end while it is used.
func TestSession_VisitorTokenRenewed(t *testing.T) {
	t.Parallel()
	v := serveVisitors(t)
	crossSite := header("Sec-Fetch-Site", "cross-site")
	id, a := v.visit(t, "docs", crossSite)
	for range 3 {
		v.set(v.clock().Add(visitor.Lifetime - time.Second))
		var again string
		if again, a = v.visit(t, "docs", crossSite, send(text, a.Visitor)); again != id {
			t.Fatalf("visitor %q, want %q", again, id)
		}
	}
	v.set(v.clock().Add(visitor.Lifetime))
	if again, _ := v.visit(t, "docs", crossSite, send(text, a.Visitor)); again == id {
		t.Error("an expired token was accepted")
	}
}

// endless is a body of which the first part arrives, and then nothing more until the
// test closes it.
type endless struct {
	first *strings.Reader
	done  chan struct{}
}

func (e endless) Read(p []byte) (int, error) {
	if e.first.Len() > 0 {
		return e.first.Read(p)
	}
	<-e.done
	return 0, io.EOF
}

func (endless) Close() error { return nil }

func TestSession_BodyThatNeverEnds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		contentType string
		padding     int // How many bytes arrive after the token.
		length      int64
		leave       time.Duration // When the visitor leaves, if not 0.
		want        time.Duration
	}{
		{"text of unknown length", text, 0, -1, 0, time.Second},
		{"text of a known length", text, 0, 512, 0, time.Second},
		{"text that is too long", text, 0, 513, 0, 0},
		{"text of unknown length that is too long", text, 500, -1, 0, 0},
		{"another type", "application/json", 0, -1, 0, 0},
		{"no type", "", 0, -1, 0, 0},
		{"the visitor leaves", text, 0, -1, 300 * time.Millisecond, 300 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := serveVisitors(t)
			mine := signer(v.site).Token(browser(page), "MINE")
			synctest.Test(t, func(t *testing.T) {
				done := make(chan struct{})
				defer close(done)
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				if tt.leave > 0 {
					time.AfterFunc(tt.leave, leave)
				}
				began := time.Now()
				id, _ := v.visit(t, "docs", send(tt.contentType, ""), func(r *http.Request) {
					r.Body, r.ContentLength = endless{strings.NewReader(mine + strings.Repeat(" ", tt.padding)), done}, tt.length
					*r = *r.WithContext(ctx)
				})
				if took := time.Since(began); took != tt.want {
					t.Errorf("answered after %s, want %s", took, tt.want)
				}
				if id == "MINE" {
					t.Error("a part of the body was taken for all of it")
				}
			})
		})
	}
}

// The text of a body that fails is not used, though it may be a whole token.
func TestSession_BodyThatFails(t *testing.T) {
	t.Parallel()
	v := serveVisitors(t)
	mine := signer(v.site).Token(browser(page), "MINE")
	id, _ := v.visit(t, "docs", send(text, ""), inChunks, func(r *http.Request) {
		r.Body = io.NopCloser(io.MultiReader(strings.NewReader(mine), broken{}))
	})
	if id == "MINE" {
		t.Error("a part of the body was taken for all of it")
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, fmt.Errorf("read: %w", io.ErrUnexpectedEOF) }
