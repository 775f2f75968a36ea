package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"docent/internal/hosted"
	"docent/internal/openai"
	"docent/internal/origin"
)

// Docs is the docs backend as the session route knows it.
type Docs struct {
	// PublicURL is the service's base URL, without a slash at the end. Where it is
	// empty, the address to which the request was sent is used.
	PublicURL string
	// DomainKeys are the keys of OpenAI's domain allow-list, by the host of the page in
	// lower case, without a port.
	DomainKeys map[string]string
	// SessionTTL is how long a session token lives, in whole seconds.
	SessionTTL time.Duration
	// HTTPS says that every visitor reaches the service over https, as on Cloud Run.
	HTTPS bool
	// Ready returns an error while there is nothing yet that questions can be answered
	// from. It does not wait. Nil means that there always is.
	Ready func(context.Context) error
}

// notReadyPause is when a visitor may try again while the index cannot be loaded: it
// is tried that often.
const notReadyPause = 10 * time.Second

// chatAPI is what ChatKit needs to talk to the docs backend.
type chatAPI struct {
	URL       string `json:"url"`
	DomainKey string `json:"domain_key"`
}

// localDomainKey is sent where ChatKit does not verify the key: it requires one all
// the same.
const localDomainKey = "domain_pk_localhost_dev"

// servedByDocs reports whether the docs backend serves the page of a request, and not
// the hosted one. The page says in the query's api what it knows: nothing for hosted
// sessions alone, "any" for both backends, and "docs" to stay with the docs backend.
func (a *api) servedByDocs(r *http.Request) (bool, error) {
	values, given := r.URL.Query()["api"]
	stays := given && len(values) == 1 && values[0] == "docs"
	switch {
	case given && !stays && (len(values) != 1 || values[0] != "any"):
		return false, &failure{code: codeBadRequest, message: `The parameter "api" must be "any" or "docs".`}
	case a.Docs == nil, a.Minter != nil && !a.workflowGone.Load() && !stays:
		return false, nil
	case !given:
		return false, &failure{
			code:  codeAssistantUnavailable,
			cause: errors.New("the page's script knows only hosted sessions, and no workflow serves them: load the script from this version of Docent"),
		}
	}
	return true, nil
}

// refused reports whether OpenAI refused to make a session with the hosted workflow,
// and the docs backend is there to take over. From then on it serves all visitors of
// this instance, without asking OpenAI again: what refused one session refuses all.
func (a *api) refused(err error) bool {
	if a.Docs == nil || !hosted.WorkflowRefused(err) {
		return false
	}
	if !a.workflowGone.Swap(true) {
		var upstream *openai.Error
		errors.As(err, &upstream)
		a.Log.Warn("OpenAI refuses the hosted workflow, Docent answers from the docs from now on: remove CHATKIT_WORKFLOW_ID", "upstream", upstream)
	}
	return true
}

// docsSession makes a session with the docs backend, without a call to OpenAI.
func (a *api) docsSession(r *http.Request, id string) (session, error) {
	exchangeOf(r.Context()).backend = backendDocs
	if a.Docs.Ready != nil {
		if err := a.Docs.Ready(r.Context()); err != nil {
			return session{}, &failure{code: codeAssistantUnavailable, retryAfter: notReadyPause, cause: err}
		}
	}
	base, err := a.baseURL(r)
	if err != nil {
		return session{}, err
	}
	key, err := a.Docs.domainKey(r.Header.Get("Origin"), base)
	if err != nil {
		return session{}, err
	}
	token, expires := a.Visitors.Session(id, a.Docs.SessionTTL)
	return session{
		Token:        token,
		ExpiresAfter: expires.Unix() - a.Now().Unix(),
		ExpiresAt:    expires.Unix(),
		API:          &chatAPI{URL: base + chatPath, DomainKey: key},
	}, nil
}

// baseURL returns the URL at which the visitor's browser reaches the service itself.
// Behind a Firebase Hosting rewrite, the request's Host is the service's own, which
// the chat needs, because Hosting delivers a stream only when it has ended. The page
// uses the URL as it is. So X-Forwarded-Host, which any sender can set, is not read.
func (a *api) baseURL(r *http.Request) (string, error) {
	switch {
	case a.Docs.PublicURL != "":
		return a.Docs.PublicURL, nil
	case !plainHost(r.Host):
		return "", &failure{code: codeBadRequest, message: `The header "Host" must be a host and an optional port.`}
	case a.Docs.HTTPS, r.TLS != nil, a.forwardedHTTPS(r):
		return "https://" + r.Host, nil
	}
	return "http://" + r.Host, nil
}

// forwardedHTTPS reports whether a trusted proxy says that it was reached over https.
// It does not trust a list of several values, since the visitor may have sent a part
// of it.
func (a *api) forwardedHTTPS(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !a.TrustedProxies.Contains(peer.Addr().Unmap().WithZone("")) {
		return false
	}
	values := r.Header.Values("X-Forwarded-Proto")
	return len(values) == 1 && values[0] == "https"
}

// domainKey returns the key that ChatKit needs on a page with this origin, for a
// chat below this base URL.
func (d *Docs) domainKey(page, base string) (string, error) {
	u, err := url.Parse(page)
	if err != nil {
		return "", fmt.Errorf("an allowed origin is not a URL: %w", err)
	}
	host := u.Hostname()
	if key := d.DomainKeys[host]; key != "" {
		return key, nil
	}
	if origin.Verified(page) && origin.Verified(base) && strings.HasPrefix(base, "https:") {
		return "", &failure{
			code: codeAssistantUnavailable,
			cause: fmt.Errorf("CHATKIT_DOMAIN_KEYS has no key for the page's host %s: "+
				"register the host in OpenAI's domain allow-list and add %[1]s=KEY", host),
		}
	}
	return localDomainKey, nil
}

var hostPattern = regexp.MustCompile(`^(?:[0-9A-Za-z_-]+(?:\.[0-9A-Za-z_-]+)*\.?|\[([0-9A-Fa-f:.]+)\])(?::([1-9][0-9]{0,4}))?$`)

// plainHost reports whether a Host header is a name or an address with an optional
// port, and nothing else that a URL could contain.
func plainHost(host string) bool {
	const longest = 253 + len(".:65535")
	if len(host) > longest {
		return false
	}
	m := hostPattern.FindStringSubmatch(host)
	if m == nil {
		return false
	}
	if _, err := netip.ParseAddr(m[1]); m[1] != "" && err != nil {
		return false
	}
	return m[2] == "" || len(m[2]) < 5 || m[2] <= "65535"
}
