// Package standin has the parts of the outside world that Docent needs, to run
// on one machine: for tests, and for the demo.
package standin

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// SessionRequest is the body of a request for a session, with the field names of
// OpenAI's API.
type SessionRequest struct {
	Workflow struct {
		ID      string `json:"id"`
		Version string `json:"version,omitempty"`
	} `json:"workflow"`
	User         string `json:"user"`
	ExpiresAfter *struct {
		Anchor  string `json:"anchor"`
		Seconds int    `json:"seconds"`
	} `json:"expires_after,omitempty"`
	RateLimits *struct {
		MaxRequestsPer1Minute int `json:"max_requests_per_1_minute"`
	} `json:"rate_limits,omitempty"`
	ChatKitConfiguration struct {
		AutomaticThreadTitling *enabled `json:"automatic_thread_titling,omitempty"`
		FileUpload             *enabled `json:"file_upload,omitempty"`
		History                *enabled `json:"history,omitempty"`
	} `json:"chatkit_configuration"`
}

type enabled struct {
	Enabled bool `json:"enabled"`
}

const (
	sessionsPath   = "/v1/chatkit/sessions"
	embeddingsPath = "/v1/embeddings"
)

var (
	// cancelPath is where a session is cancelled.
	cancelPath = regexp.MustCompile(`^/v1/chatkit/sessions/([^/]+)/cancel$`)
	// searchPath is where a vector store is searched.
	searchPath = regexp.MustCompile(`^/v1/vector_stores/([^/]+)/search$`)
)

// OpenAI is a stand-in for parts of OpenAI's API: those that mint ChatKit sessions
// and cancel them, embed texts, search vector stores, and answer questions. It checks
// requests as strictly as OpenAI does.
type OpenAI struct {
	mu       sync.Mutex
	key      string
	workflow string
	faults   []http.HandlerFunc
	asked    []SessionRequest
	keys     []string
	minted   map[string]bool // Whether the session of this ID is active.
	embedded int
	stores   map[string][]chunk // Vector stores by ID.
	latency  time.Duration

	responses []ResponseRequest
	plays     []play
	left      []time.Time
	pace      time.Duration      // Between two deltas of a response.
	repeats   bool               // The question is the answer.
	window    int                // Of all models in tokens, or 0.
	prefixes  map[[3]string]bool // The prompts that are cached.
}

// NewOpenAI returns a stand-in that knows one key and one workflow.
func NewOpenAI(key, workflow string) *OpenAI {
	return &OpenAI{
		key: key, workflow: workflow, minted: map[string]bool{}, stores: map[string][]chunk{},
		pace: usualPace, prefixes: map[[3]string]bool{},
	}
}

// SetLatency makes the stand-in wait before each answer.
func (o *OpenAI) SetLatency(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.latency = d
}

// SetKey replaces the key, as a rotation does.
func (o *OpenAI) SetKey(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.key = key
}

// Fail makes the handlers answer the next calls, one each, before the stand-in
// answers on its own again.
func (o *OpenAI) Fail(faults ...http.HandlerFunc) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.faults = append(o.faults, faults...)
}

// Asked returns the valid requests so far.
func (o *OpenAI) Asked() []SessionRequest {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.asked)
}

// Keys returns the keys of all calls so far, whatever the answer was.
func (o *OpenAI) Keys() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.keys)
}

// Active returns how many sessions have been minted and not cancelled.
func (o *OpenAI) Active() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, active := range o.minted {
		if active {
			n++
		}
	}
	return n
}

// Listen serves the stand-in on a free port of the loopback interface and
// returns the base URL to configure.
func (o *OpenAI) Listen() (baseURL string, stop func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // It opens at once.
	if err != nil {
		return "", nil, fmt.Errorf("stand-in OpenAI: %w", err)
	}
	srv := &http.Server{Handler: o, ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(l) //nolint:errcheck // It ends with ErrServerClosed, at stop.
	return "http://" + l.Addr().String() + "/v1", srv.Close, nil
}

// ServeHTTP implements [http.Handler].
func (o *OpenAI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	key, latency := o.key, o.latency
	o.keys = append(o.keys, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	var fault http.HandlerFunc
	if len(o.faults) > 0 {
		fault, o.faults = o.faults[0], o.faults[1:]
	}
	o.mu.Unlock()

	// The server only sees that a client leaves once the body has been read.
	body, err := io.ReadAll(io.LimitReader(r.Body, 16<<20))
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	select {
	case <-r.Context().Done(): // The client has gone.
		o.leave()
		return
	case <-time.After(latency):
	}
	w.Header().Set("X-Request-Id", "req_"+strings.ToLower(rand.Text()))
	cancelled, searched := cancelPath.FindStringSubmatch(r.URL.Path), searchPath.FindStringSubmatch(r.URL.Path)
	switch {
	case fault != nil:
		fault(w, r)
	case !slices.Contains([]string{sessionsPath, embeddingsPath, responsesPath}, r.URL.Path) && cancelled == nil && searched == nil:
		openAIError(w, http.StatusNotFound, "unknown_url", "Invalid URL ("+r.Method+" "+r.URL.Path+")")
	case r.Method != http.MethodPost:
		openAIError(w, http.StatusMethodNotAllowed, "method_not_supported", "Not allowed to "+r.Method+" on this URL.")
	case r.Header.Get("Authorization") != "Bearer "+key:
		wrongKey(w, r)
	case r.URL.Path == embeddingsPath:
		o.embed(w, r)
	case r.URL.Path == responsesPath:
		o.respond(w, r)
	case searched != nil:
		o.search(w, r, searched[1])
	case r.Header.Get("OpenAI-Beta") != "chatkit_beta=v1":
		openAIError(w, http.StatusBadRequest, "invalid_beta", "You must provide the 'OpenAI-Beta' header.")
	case cancelled != nil:
		o.cancel(w, cancelled[1])
	default:
		o.session(w, r)
	}
}

// session mints a session for a valid request.
func (o *OpenAI) session(w http.ResponseWriter, r *http.Request) {
	var s SessionRequest
	if err := readRequest(r, &s); err != nil {
		openAIError(w, http.StatusBadRequest, "invalid_request", "The request is not valid.")
		return
	}
	id := "cksess_" + strings.ToLower(rand.Text())
	o.mu.Lock()
	known := s.Workflow.ID == o.workflow
	if known {
		o.asked = append(o.asked, s)
		o.minted[id] = true
	}
	o.mu.Unlock()
	if !known {
		openAIError(w, http.StatusNotFound, "", fmt.Sprintf("Workflow with id '%s' not found.", s.Workflow.ID))
		return
	}
	mint(w, id, s)
}

func (o *OpenAI) cancel(w http.ResponseWriter, id string) {
	o.mu.Lock()
	_, known := o.minted[id]
	if known {
		o.minted[id] = false
	}
	o.mu.Unlock()
	if !known {
		openAIError(w, http.StatusNotFound, "", fmt.Sprintf("Session with id '%s' not found.", id))
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"id": id, "object": "chatkit.session", "status": "cancelled"})
}

func wrongKey(w http.ResponseWriter, r *http.Request) {
	message := "Incorrect API key provided: " + masked(r) + "."
	if r.URL.Path == responsesPath {
		message += " You can find your API key at https://platform.openai.com/account/api-keys."
	}
	openAIError(w, http.StatusUnauthorized, "invalid_api_key", message)
}

// masked quotes the key as OpenAI's own 401 does.
func masked(r *http.Request) string {
	key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if len(key) < 12 {
		return "***"
	}
	return key[:8] + "***" + key[len(key)-4:]
}

func readRequest(r *http.Request, s *SessionRequest) error {
	dec := json.NewDecoder(io.LimitReader(r.Body, 1<<20))
	dec.DisallowUnknownFields()
	if err := dec.Decode(s); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	e, l := s.ExpiresAfter, s.RateLimits
	switch {
	case r.Header.Get("Content-Type") != "application/json",
		s.Workflow.ID == "", s.User == "",
		e != nil && (e.Anchor != "created_at" || e.Seconds < 1 || e.Seconds > 600),
		l != nil && l.MaxRequestsPer1Minute < 1:
		return fmt.Errorf("request is out of bounds: %+v", s)
	}
	return nil
}

func mint(w http.ResponseWriter, id string, s SessionRequest) {
	ttl, perMinute := 600, 10
	if s.ExpiresAfter != nil {
		ttl = s.ExpiresAfter.Seconds
	}
	if s.RateLimits != nil {
		perMinute = s.RateLimits.MaxRequestsPer1Minute
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"id":                        id,
		"object":                    "chatkit.session",
		"client_secret":             "ek_standin_" + strings.ToLower(rand.Text()),
		"expires_at":                time.Now().Unix() + int64(ttl),
		"workflow":                  s.Workflow,
		"user":                      s.User,
		"rate_limits":               map[string]int{"max_requests_per_1_minute": perMinute},
		"max_requests_per_1_minute": perMinute,
		"status":                    "active",
		"chatkit_configuration":     s.ChatKitConfiguration,
	})
}

// decode reads the JSON of a request. It refuses a request that has none, or a field
// that OpenAI does not know.
func decode(w http.ResponseWriter, r *http.Request, v any) bool {
	dec := json.NewDecoder(io.LimitReader(r.Body, 16<<20))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil || r.Header.Get("Content-Type") != "application/json" {
		openAIError(w, http.StatusBadRequest, "", "We could not parse the JSON body of your request.")
		return false
	}
	return true
}

func openAIError(w http.ResponseWriter, status int, code, message string) {
	openAIFault(w, status, "invalid_request_error", code, message)
}

func openAIFault(w http.ResponseWriter, status int, typ, code, message string) {
	var c any // OpenAI sends null if there is none.
	if code != "" {
		c = code
	}
	writeJSON(w, status, map[string]any{"error": map[string]any{"message": message, "type": typ, "param": nil, "code": c}})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body) //nolint:errcheck // The client may have gone.
}
