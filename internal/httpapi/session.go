package httpapi

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"docent/internal/ratelimit"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
)

// originAllowed is the gate: CORS only tells browsers who may read an answer,
// this decides who gets one. A request without an Origin is not from a page.
func (a *api) originAllowed(_ http.ResponseWriter, r *http.Request) error {
	origins := r.Header.Values("Origin")
	if len(origins) == 1 && a.Origins.Allows(origins[0]) {
		return nil
	}
	return &failure{code: codeOriginNotAllowed}
}

// clientAddress finds the visitor's address: the rightmost in X-Forwarded-For
// that is not a trusted proxy's. Everything left of it may be forged.
func (a *api) clientAddress() func(http.Handler) http.Handler {
	if len(a.TrustedProxies) == 0 {
		return middleware.ClientIPFromRemoteAddr
	}
	var trusted []string
	for _, p := range a.TrustedProxies {
		trusted = append(trusted, p.String())
	}
	return middleware.ClientIPFromXFF(trusted...)
}

// addressKnown refuses a visitor who cannot be told from others: counting them
// all in one bucket would let one of them shut out the rest.
func (a *api) addressKnown(_ http.ResponseWriter, r *http.Request) error {
	addr := middleware.GetClientIPAddr(r.Context())
	if !addr.IsValid() {
		return &failure{code: codeClientAddressUnknown}
	}
	if slices.ContainsFunc(a.FrontEnds, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		a.frontEnd.Do(func() {
			a.Log.Warn("visitors seem to share the address of a Google front end and so one limit; behind a Firebase Hosting rewrite, add firebase-hosting to TRUSTED_PROXIES")
		})
	}
	return nil
}

// withinLimit takes one session from the address's bucket.
func (a *api) withinLimit(_ http.ResponseWriter, r *http.Request) error {
	rec := recordOf(r.Context())
	started := a.Now()
	d, err := a.Limiter.Take(r.Context(), middleware.GetClientIPAddr(r.Context()))
	rec.limiter = a.Now().Sub(started)
	if err != nil {
		return fmt.Errorf("rate limit: %w", err)
	}
	rec.decision = d
	if !d.Granted {
		return &failure{code: codeRateLimited, retryAfter: d.Reset}
	}
	return nil
}

// mintSession answers with a session for the visitor. The request's body is
// never read: nothing that a page sends has a say in it.
func (a *api) mintSession(w http.ResponseWriter, r *http.Request) error {
	rec := recordOf(r.Context())
	user := a.Visitors.ID(r)
	started := a.Now()
	s, err := a.Minter.Mint(r.Context(), user)
	now := a.Now()
	rec.upstream = now.Sub(started)
	if err != nil {
		return fmt.Errorf("mint: %w", err)
	}
	rec.outcome = "granted"
	http.SetCookie(w, a.Visitors.Cookie(r, user))
	setRateLimit(w.Header(), rec.decision)
	return a.writeJSON(w, http.StatusOK, struct {
		ClientSecret string `json:"client_secret"`
		ExpiresAfter int64  `json:"expires_after"`
		ExpiresAt    int64  `json:"expires_at"`
	}{s.ClientSecret, s.ExpiresAt.Unix() - now.Unix(), s.ExpiresAt.Unix()})
}

// setRateLimit tells the visitor what is left, in the words of
// draft-ietf-httpapi-ratelimit-headers-11 and in those of common practice.
func setRateLimit(h http.Header, d ratelimit.Decision) {
	policy := `"per-ip";q=` + strconv.Itoa(d.Limit) + ";w=" + strconv.FormatInt(seconds(ratelimit.Window), 10)
	left := `"per-ip";r=` + strconv.Itoa(d.Remaining) + ";t=" + strconv.FormatInt(seconds(d.Reset), 10)
	// Spelled as Set makes them, which then need not make anything.
	h.Set("Ratelimit-Policy", policy)
	h.Set("Ratelimit", left)
	h.Set("X-Ratelimit-Limit", strconv.Itoa(d.Limit))
	h.Set("X-Ratelimit-Remaining", strconv.Itoa(d.Remaining))
}

// seconds rounds up: nobody may be told to come too early.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// health answers probes. It asks no dependency: a probe must not restart every
// instance because Firestore has a bad minute.
func (a *api) health(w http.ResponseWriter, _ *http.Request) error {
	return a.writeJSON(w, http.StatusOK, struct {
		Status string `json:"status"`
	}{"ok"})
}

func (a *api) notFound(http.ResponseWriter, *http.Request) error {
	return &failure{code: codeNotFound}
}

// methodNotAllowed lists the methods that would have been right. The router
// also sends it methods it does not know, at any path.
func (a *api) methodNotAllowed(w http.ResponseWriter, r *http.Request) error {
	path := cmp.Or(r.URL.RawPath, r.URL.Path) // As the router does.
	var allow []string
	if a.routes.Match(chi.NewRouteContext(), http.MethodGet, path) {
		allow = append(allow, http.MethodGet, http.MethodHead)
	}
	if a.routes.Match(chi.NewRouteContext(), http.MethodPost, path) {
		allow = append(allow, http.MethodPost)
	}
	if len(allow) == 0 {
		return a.notFound(w, r)
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	return &failure{code: codeMethodNotAllowed}
}
