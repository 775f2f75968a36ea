package httpapi

import (
	"fmt"
	"net/http"
)

// mintSession answers with a session for the visitor. Nothing in the request's body
// has any effect on it.
func (a *api) mintSession(w http.ResponseWriter, r *http.Request) error {
	x := exchangeOf(r.Context())
	user := a.Visitors.ID(r, "")
	started := a.Now()
	s, err := a.Minter.Mint(r.Context(), user)
	now := a.Now()
	x.upstream = now.Sub(started)
	if err != nil {
		return fmt.Errorf("mint: %w", err)
	}
	x.outcome = outcomeGranted
	http.SetCookie(w, a.Visitors.Cookie(r, user))
	setRateLimit(w.Header(), x.decision)
	return a.writeJSON(w, http.StatusOK, struct {
		ClientSecret string `json:"client_secret"`
		ExpiresAfter int64  `json:"expires_after"`
		ExpiresAt    int64  `json:"expires_at"`
	}{s.ClientSecret, s.ExpiresAt.Unix() - now.Unix(), s.ExpiresAt.Unix()})
}
