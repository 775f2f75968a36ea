// Package hosted mints sessions for a ChatKit backend that OpenAI hosts.
package hosted

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"docent/internal/openai"
)

// path is where sessions are made, below the API's base URL.
const path = "/chatkit/sessions"

// header has OpenAI accept calls to an API that is in beta.
var header = http.Header{http.CanonicalHeaderKey("OpenAI-Beta"): {"chatkit_beta=v1"}}

// Value is a value that may change.
type Value interface {
	// Get returns the current value at once.
	Get() string
}

// Options configure a [Minter]. What is zero is not sent, so that OpenAI's own
// default holds.
type Options struct {
	// WorkflowID must belong to the API key's project.
	WorkflowID Value
	// WorkflowVersion pins the workflow's version.
	WorkflowVersion string
	// SessionTTL is how long a session lives, in whole seconds up to 10 minutes.
	SessionTTL time.Duration
	// RequestsPerMinute is how many messages a session takes in a minute.
	RequestsPerMinute *int
	// History and FileUpload are always sent.
	History, FileUpload bool
	// Now is the clock that tells whether a session has expired.
	Now func() time.Time
}

// Session is what a visitor's page needs to talk to OpenAI.
type Session struct {
	// ID names the session towards OpenAI. It is not a secret, and empty where
	// OpenAI sends none.
	ID string
	// ClientSecret is the short-lived credential. It must not be logged.
	ClientSecret string
	// ExpiresAt is when it ends, in whole seconds.
	ExpiresAt time.Time
}

// Minter mints sessions. It is safe for concurrent use.
type Minter struct {
	o      Options
	client *openai.Client
}

// New returns a minter that calls OpenAI with a client, which the caller closes.
func New(client *openai.Client, o Options) *Minter { return &Minter{o, client} }

// Mint returns a new session for a user: the visitor's ID, which scopes the
// threads. It fails as [openai.Client.Post] does.
func (m *Minter) Mint(ctx context.Context, user string) (Session, error) {
	body, err := m.request(user)
	if err != nil {
		return Session{}, err
	}
	answer, err := m.client.Post(ctx, path, header, body)
	if err != nil {
		return Session{}, err
	}
	session, err := m.parse(answer.Body)
	if err != nil {
		return Session{}, answer.Unusable(err)
	}
	return session, nil
}

// Cancel ends a session before its time. It makes one attempt and fails as Mint
// does. A session that is not cancelled ends on its own.
func (m *Minter) Cancel(ctx context.Context, id string) error {
	_, err := m.client.PostOnce(ctx, path+"/"+url.PathEscape(id)+"/cancel", header, nil)
	return err
}

// parse returns the session in an answer's body.
func (m *Minter) parse(body []byte) (Session, error) {
	var s struct {
		ID           string `json:"id"`
		ClientSecret string `json:"client_secret"`
		ExpiresAt    int64  `json:"expires_at"`
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return Session{}, fmt.Errorf("the session is not readable: %w", err)
	}
	if s.ClientSecret == "" {
		return Session{}, errors.New("the session has no client_secret")
	}
	if s.ExpiresAt <= m.o.Now().Unix() {
		return Session{}, errors.New("the session has expired already")
	}
	return Session{ID: s.ID, ClientSecret: s.ClientSecret, ExpiresAt: time.Unix(s.ExpiresAt, 0)}, nil
}

// request returns the JSON that asks for a session.
func (m *Minter) request(user string) ([]byte, error) {
	type enabled struct {
		Enabled bool `json:"enabled"`
	}
	type expiry struct {
		Anchor  string `json:"anchor"`
		Seconds int    `json:"seconds"`
	}
	type limits struct {
		MaxRequestsPer1Minute int `json:"max_requests_per_1_minute"`
	}
	var r struct {
		Workflow struct {
			ID      string `json:"id"`
			Version string `json:"version,omitempty"`
		} `json:"workflow"`
		User         string  `json:"user"`
		ExpiresAfter *expiry `json:"expires_after,omitempty"`
		RateLimits   *limits `json:"rate_limits,omitempty"`
		ChatKit      struct {
			History    enabled `json:"history"`
			FileUpload enabled `json:"file_upload"`
		} `json:"chatkit_configuration"`
	}
	r.Workflow.ID = m.o.WorkflowID.Get()
	r.Workflow.Version = m.o.WorkflowVersion
	r.User = user
	if m.o.SessionTTL > 0 {
		r.ExpiresAfter = &expiry{Anchor: "created_at", Seconds: int(m.o.SessionTTL.Seconds())}
	}
	if m.o.RequestsPerMinute != nil {
		r.RateLimits = &limits{MaxRequestsPer1Minute: *m.o.RequestsPerMinute}
	}
	r.ChatKit.History.Enabled = m.o.History
	r.ChatKit.FileUpload.Enabled = m.o.FileUpload
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding the session request: %w", err)
	}
	return body, nil
}

// WorkflowRefused reports whether an error of [Minter.Mint] says that OpenAI will not
// make sessions with the workflow any more, whoever asks: it refuses the request, or the
// workflow is gone. A refused key or a busy OpenAI says nothing of the workflow.
func WorkflowRefused(err error) bool {
	var upstream *openai.Error
	if !errors.As(err, &upstream) {
		return false
	}
	switch upstream.Status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return true
	default:
		return false
	}
}
