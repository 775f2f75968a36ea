// Package visitor gives each browser a pseudonymous ID that it cannot choose.
//
// The ID scopes a visitor's conversations. A caller who could name another
// visitor's ID could read them. So the ID travels only in signed tokens, and an ID
// that does not verify is replaced, never trusted. A browser keeps its ID in a
// cookie and, where the page is on another site, also in a visitor token: some
// browsers block cookies of other sites. A session token opens the chat for a
// short time.
package visitor

import (
	"crypto/hmac"
	"crypto/rand"
	"net/http"
	"strings"
	"time"
)

const (
	// CookieName is the only cookie that Firebase Hosting passes to a rewrite. A
	// docs site may use the name too, at another path.
	CookieName = "__session"
	// Lifetime is how long an ID is valid after the visitor's last session.
	Lifetime = 30 * 24 * time.Hour
)

// Keys sign the IDs. They must be secret, different, and the same on all
// instances for as long as visitors are to be recognised.
type Keys struct {
	// Tokens signs every token.
	Tokens []byte
	// Undated verifies cookies of the first format, which was ID and MAC without
	// purpose or times. They are accepted and replaced, never issued.
	Undated []byte
}

// Signer issues and recognises IDs.
type Signer struct {
	keys Keys
	path string
	now  func() time.Time
}

// NewSigner returns a signer whose cookies are for one path and everything below
// it, and which tells the time by now.
func NewSigner(keys Keys, path string, now func() time.Time) *Signer {
	return &Signer{keys: keys, path: path, now: now}
}

// ID returns the visitor's ID: the one in the visitor token that the page of the
// request has sent, if that verifies, else the one in the cookies that verify, else
// a new one of at least 128 random bits. The token takes precedence because another
// site can plant a cookie, but cannot write the page's storage.
//
// A subdomain of the docs site's domain can plant a cookie here, for example an
// attacker's own valid one, to read the visitor's conversations later. The
// browser sends it with the visitor's, and nothing tells which is which. So
// where the cookies name different visitors, none is trusted.
func (s *Signer) ID(r *http.Request, token string) string {
	if id, ok := open(s.keys.Tokens, forPage, r.Header.Get("Origin"), token, s.now()); ok {
		return id
	}
	var found string
	for _, c := range r.CookiesNamed(CookieName) {
		id, ok := s.verify(c.Value)
		switch {
		case !ok: // The docs site's own cookie, or a forged or expired one.
		case found == "":
			found = id
		case found != id:
			return rand.Text()
		}
	}
	if found == "" {
		return rand.Text()
	}
	return found
}

func (s *Signer) verify(cookie string) (id string, ok bool) {
	if id, ok := open(s.keys.Tokens, forCookie, "", cookie, s.now()); ok {
		return id, true
	}
	id, mac, _ := strings.Cut(cookie, ".")
	return id, id != "" && hmac.Equal([]byte(mac), []byte(sign(s.keys.Undated, []byte(id), "")))
}

// Cookie returns the cookie that carries an ID back to the page of a request.
// A page on another site can only be given a partitioned cookie. A request that
// does not say where it comes from is taken to be from the same site.
func (s *Signer) Cookie(r *http.Request, id string) *http.Cookie {
	now := s.now()
	c := &http.Cookie{
		Name:     CookieName,
		Value:    token{forCookie, id, now, now.Add(Lifetime), ""}.seal(s.keys.Tokens),
		Path:     s.path,
		MaxAge:   int(Lifetime.Seconds()),
		Secure:   true,
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
	}
	if CrossSite(r) {
		c.SameSite = http.SameSiteNoneMode
		c.Partitioned = true
	}
	return c
}

// Token returns the visitor token that carries an ID back to the page of a request.
// Only a page of the same origin can send it back.
func (s *Signer) Token(r *http.Request, id string) string {
	now := s.now()
	return token{forPage, id, now, now.Add(Lifetime), r.Header.Get("Origin")}.seal(s.keys.Tokens)
}

// CrossSite reports whether a request comes from a page on another site than the
// service. Then its browser may block the cookie.
func CrossSite(r *http.Request) bool { return r.Header.Get("Sec-Fetch-Site") == "cross-site" }

// Session returns a session token for a visitor and the whole second in which it
// expires, after the time to live.
func (s *Signer) Session(id string, ttl time.Duration) (sealed string, expires time.Time) {
	now := s.now()
	expires = now.Add(ttl).Truncate(time.Second)
	return token{forSession, id, now, expires, ""}.seal(s.keys.Tokens), expires
}

// OpenSession returns the ID of the visitor whose session token this is, if the
// token verifies and has not expired.
func (s *Signer) OpenSession(sealed string) (id string, ok bool) {
	return open(s.keys.Tokens, forSession, "", sealed, s.now())
}
