package httpapi

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"docent/internal/address"
	"docent/internal/ratelimit"
)

// originAllowed is the gate. CORS only tells browsers who may read an answer; the
// gate decides who gets one. A request without an Origin does not come from a page.
func (a *api) originAllowed(r *http.Request) error {
	origins := r.Header.Values("Origin")
	if len(origins) == 1 && a.Origins.Allows(origins[0]) {
		return nil
	}
	return &failure{code: codeOriginNotAllowed}
}

// addressKnown refuses a visitor whose address is unknown. If all of them were
// counted in one bucket, one could shut out the rest.
func (a *api) addressKnown(r *http.Request) error {
	addr := address.Of(r.Context())
	if !addr.IsValid() {
		return &failure{code: codeClientAddressUnknown}
	}
	if a.frontEnds.Contains(addr) {
		a.frontEndSeen.Do(func() {
			a.Log.Warn("visitors seem to share the address of a Google front end and so one limit; behind a Firebase Hosting rewrite, add firebase-hosting to TRUSTED_PROXIES")
		})
	}
	return nil
}

// withinLimit takes one session from the address's bucket.
func (a *api) withinLimit(r *http.Request) error { return a.take(r, a.Limiter) }

// take takes one grant of a limiter for the address, if there is a limiter.
func (a *api) take(r *http.Request, l Limiter) error {
	if l == nil {
		return nil
	}
	x := exchangeOf(r.Context())
	started := a.Now()
	d, err := l.Take(r.Context(), ratelimit.KeyOf(address.Of(r.Context())))
	x.limiter = a.Now().Sub(started)
	if err != nil {
		return fmt.Errorf("rate limit: %w", err)
	}
	x.decision = d
	if !d.Granted {
		return &failure{code: codeRateLimited, retryAfter: d.Reset}
	}
	return nil
}

// answersLeft refuses an address that is known to have used up its answers of the day.
// Nothing is counted for it: else it could have messages counted and given back
// without end, at the store's cost.
func (a *api) answersLeft(r *http.Request) error {
	if a.Chat.Answers == nil {
		return nil
	}
	d, known := a.Chat.Answers.Refused(ratelimit.KeyOf(address.Of(r.Context())))
	if !known {
		return nil
	}
	exchangeOf(r.Context()).decision = d
	return &failure{code: codeAnswersUsedUp, retryAfter: d.Reset}
}

// takeAnswer takes one of the day's answers for the address.
func (a *api) takeAnswer(r *http.Request) error {
	if a.Chat.Answers == nil {
		return nil
	}
	x := exchangeOf(r.Context())
	started := a.Now()
	d, err := a.Chat.Answers.Take(r.Context(), ratelimit.KeyOf(address.Of(r.Context())))
	x.limiter += a.Now().Sub(started)
	if err != nil {
		return fmt.Errorf("answers of the day: %w", err)
	}
	x.decision = d
	switch {
	case d.Granted:
		return nil
	case d.Refused == ratelimit.ByContention: // It says nothing of what is left of the day.
		return &failure{code: codeBusy, retryAfter: busyPause}
	default:
		return &failure{code: codeAnswersUsedUp, retryAfter: d.Reset}
	}
}

// setRateLimit tells the visitor what is left, in the headers of
// draft-ietf-httpapi-ratelimit-headers-11 and in the common X-RateLimit ones.
func setRateLimit(h http.Header, d ratelimit.Decision) {
	policy := `"` + d.Name + `";q=` + strconv.Itoa(d.Limit) + ";w=" + strconv.FormatInt(seconds(d.Window), 10)
	left := `"` + d.Name + `";r=` + strconv.Itoa(d.Remaining) + ";t=" + strconv.FormatInt(seconds(d.Reset), 10)
	// In canonical MIME form already (net/http writes RateLimit as Ratelimit), so Set
	// does not allocate.
	h.Set("Ratelimit-Policy", policy)
	h.Set("Ratelimit", left)
	h.Set("X-Ratelimit-Limit", strconv.Itoa(d.Limit))
	h.Set("X-Ratelimit-Remaining", strconv.Itoa(d.Remaining))
}

// seconds rounds up, so that a caller who waits is never early.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
