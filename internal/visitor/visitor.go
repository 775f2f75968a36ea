// Package visitor gives each browser a pseudonymous ID that it cannot choose.
//
// The ID scopes a visitor's conversations at OpenAI, so whoever could name
// another visitor's would read along. It therefore travels in a signed cookie,
// and one that does not verify is replaced, never trusted.
package visitor

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"time"
)

const (
	// CookieName is the one cookie that Firebase Hosting lets through to a
	// rewrite. A docs site may use it too, at another path.
	CookieName = "__session"
	// Lifetime is how long a browser keeps the ID, from its last session on.
	Lifetime = 30 * 24 * time.Hour

	path = "/api/chatkit"
)

// Signer issues and recognises IDs.
type Signer struct{ key []byte }

// NewSigner returns a signer for a secret key, which must be the same wherever
// and whenever one visitor is to be recognised.
func NewSigner(key []byte) *Signer { return &Signer{key: key} }

// ID returns the visitor's ID from the first cookie that verifies, else a new
// one of at least 128 random bits.
func (s *Signer) ID(r *http.Request) string {
	for _, c := range r.CookiesNamed(CookieName) {
		if id, mac, ok := strings.Cut(c.Value, "."); ok && hmac.Equal([]byte(mac), []byte(s.sign(id))) {
			return id
		}
	}
	return rand.Text()
}

// Cookie returns the cookie that carries an ID back to the page of a request.
// A page on another site can only be given a partitioned one; what does not
// say where it comes from is taken to be on this site.
func (s *Signer) Cookie(r *http.Request, id string) *http.Cookie {
	c := &http.Cookie{
		Name:     CookieName,
		Value:    id + "." + s.sign(id),
		Path:     path,
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

func (s *Signer) sign(id string) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(id))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
