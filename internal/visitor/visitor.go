// Package visitor gives each browser a pseudonymous ID that it cannot choose.
//
// The ID scopes a visitor's conversations, so anyone who could name another
// visitor's ID could read along. It therefore travels in a signed cookie, and an
// ID that does not verify is replaced, never trusted.
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

// ID returns the visitor's ID from the cookies that verify, else a new one of at
// least 128 random bits.
//
// A subdomain of the docs site's domain can plant a cookie here, for example an
// attacker's own valid one, to read the visitor's conversations later. The
// browser sends it with the visitor's, and nothing tells which is which. So
// where the cookies name different visitors, none is trusted.
func (s *Signer) ID(r *http.Request) string {
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
	if id, ok := open(s.keys.Tokens, forCookie, cookie, s.now()); ok {
		return id, true
	}
	id, mac, _ := strings.Cut(cookie, ".")
	return id, id != "" && hmac.Equal([]byte(mac), []byte(sign(s.keys.Undated, []byte(id))))
}

// Cookie returns the cookie that carries an ID back to the page of a request.
// A page on another site can only be given a partitioned cookie. A request that
// does not say where it comes from is taken to be from the same site.
func (s *Signer) Cookie(r *http.Request, id string) *http.Cookie {
	now := s.now()
	c := &http.Cookie{
		Name:     CookieName,
		Value:    token{forCookie, id, now, now.Add(Lifetime)}.seal(s.keys.Tokens),
		Path:     s.path,
		MaxAge:   int(Lifetime.Seconds()),
		Secure:   true,
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
	}
	if r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		c.SameSite = http.SameSiteNoneMode
		c.Partitioned = true
	}
	return c
}
