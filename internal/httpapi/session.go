package httpapi

import (
	"fmt"
	"net/http"

	"docent/internal/visitor"
)

// session tells a page where its visitor's chat is, and until when it may be used.
type session struct {
	// ClientSecret opens a chat of the hosted backend.
	ClientSecret string `json:"client_secret,omitempty"`
	// Token opens a chat of the docs backend, which API says how to reach.
	Token        string   `json:"token,omitempty"`
	ExpiresAfter int64    `json:"expires_after"` // Seconds from now.
	ExpiresAt    int64    `json:"expires_at"`    // Unix time in seconds.
	API          *chatAPI `json:"api,omitempty"`
	// Visitor is the visitor token. The page sends it back with its next request.
	Visitor string `json:"visitor,omitempty"`
}

// startSession answers with a session for the visitor. Nothing in the request's
// body has any effect on it, except a valid visitor token.
func (a *api) startSession(w http.ResponseWriter, r *http.Request) error {
	start := a.hostedSession
	docs, err := a.servedByDocs(r)
	if err != nil {
		return err
	}
	if docs {
		start = a.docsSession
	}
	id := a.Visitors.ID(r, sentText(r.Context()))
	s, err := start(r, id)
	if a.refused(err) && r.URL.Query().Has("api") {
		s, err = a.docsSession(r, id)
	}
	if err != nil {
		return err
	}
	if visitor.CrossSite(r) {
		s.Visitor = a.Visitors.Token(r, id)
	}
	x := exchangeOf(r.Context())
	x.outcome = outcomeGranted
	http.SetCookie(w, a.Visitors.Cookie(r, id))
	setRateLimit(w.Header(), x.decision)
	return a.writeJSON(w, http.StatusOK, s)
}

// hostedSession has OpenAI make a session with the hosted workflow.
func (a *api) hostedSession(r *http.Request, id string) (session, error) {
	exchangeOf(r.Context()).backend = backendHosted
	started := a.Now()
	s, err := a.Minter.Mint(r.Context(), id)
	now := a.Now()
	exchangeOf(r.Context()).upstream = now.Sub(started)
	if err != nil {
		return session{}, fmt.Errorf("mint: %w", err)
	}
	return session{
		ClientSecret: s.ClientSecret,
		ExpiresAfter: s.ExpiresAt.Unix() - now.Unix(),
		ExpiresAt:    s.ExpiresAt.Unix(),
	}, nil
}
