// Package httpapi is Docent over HTTP: the way of a request, from the log to
// the answer.
package httpapi

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"docent/internal/address"
	"docent/internal/hosted"
	"docent/internal/ratelimit"
	"docent/internal/visitor"
	"docent/internal/widget"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/go-chi/cors"
)

// BasePath is the path under which pages find everything that is for them.
const BasePath = "/api/chatkit"

const (
	sessionPath = BasePath + "/session"
	chatPath    = BasePath + "/chat"
	widgetPath  = BasePath + "/widget.js" // Next to the session, which the script finds from its own URL.
	healthPath  = "/health"               // Not /healthz: Google's front end answers that path itself.
)

// Origins decides which pages may ask for a session.
type Origins interface {
	Allows(origin string) bool
}

// Limiter decides how often an address may do something.
type Limiter interface {
	Take(ctx context.Context, key ratelimit.Key) (ratelimit.Decision, error)
	// Return gives back what a decision has granted and was not used.
	Return(d ratelimit.Decision)
}

// Answers decides how many answers an address may have.
type Answers interface {
	// Refused returns the refusal of an address that is known to get nothing more
	// today. It costs nothing.
	Refused(key ratelimit.Key) (refused ratelimit.Decision, known bool)
	Take(ctx context.Context, key ratelimit.Key) (ratelimit.Decision, error)
}

// Minter makes sessions.
type Minter interface {
	Mint(ctx context.Context, user string) (hosted.Session, error)
}

// Options are the parts that the routes connect.
type Options struct {
	Origins Origins
	Limiter Limiter
	// Minter makes the sessions of the hosted backend. It is nil where only the docs
	// backend is configured.
	Minter Minter
	// Docs is nil where only the hosted backend is configured.
	Docs *Docs
	// Chat is nil where Docent does not answer messages itself.
	Chat     *Chat
	Visitors *visitor.Signer
	// TrustedProxies are the hops whose entries in X-Forwarded-For are believed.
	TrustedProxies address.Proxies
	// Timeout is the budget of one session request.
	Timeout time.Duration
	// Project is the Google Cloud project whose traces requests belong to, if any.
	Project string
	Log     *slog.Logger
	Now     func() time.Time
}

type api struct {
	Options

	routes       chi.Routes
	sampler      sampler
	slots        slots
	repeats      repeats
	workflowGone atomic.Bool     // OpenAI has refused the hosted workflow.
	frontEnds    address.Proxies // Google's front ends that are not trusted.
	frontEndSeen sync.Once       // Logs once that a front end was taken for a visitor.
}

// New returns the service's handler.
func New(o Options) http.Handler {
	a := &api{Options: o, frontEnds: o.TrustedProxies.FrontEnds()}
	r := chi.NewRouter()
	a.routes = r

	r.Use(
		a.logRequest,   // Outermost, so that it sees every answer and the whole time.
		a.recoverPanic, // Inside the log, so that a panic is an outcome like others.
		a.discardBody,
		middleware.GetHead,
	)
	r.NotFound(a.handle(a.notFound))
	r.MethodNotAllowed(a.handle(a.methodNotAllowed))
	r.Get(healthPath, a.handle(a.health))
	r.Method(http.MethodGet, widgetPath, widget.Handler())

	// The gate comes before CORS, whose library answers every preflight with 200, and
	// before the limiter, so that a foreign page costs no store operation. The limiter
	// comes before OpenAI, so that an address over its limit costs no money.
	gated := r.With(
		a.guard(a.originAllowed), // 403
		a.cors(),                 // A preflight ends here.
	)
	gated.Options(sessionPath, a.handle(a.methodNotAllowed)) // An OPTIONS that is not a preflight.
	gated.With(
		a.budget,
		a.TrustedProxies.Client(),
		a.guard(a.addressKnown), // 400
		a.guard(a.withinLimit),  // 429
	).Post(sessionPath, a.handle(a.startSession)) // 200, 400, 502, 503, 504
	if a.Chat == nil {
		return r
	}
	a.slots = slots{max: a.Chat.AtOnce, visitors: map[string]int{}}
	a.repeats.running = map[repeatKey]*message{}
	gated.Options(chatPath, a.handle(a.methodNotAllowed))
	gated.With(
		a.asChat,
		a.Chat.TrustedProxies.Client(),
		a.guard(a.addressKnown), // 400
		a.guard(a.sessionValid), // 401
	).Post(chatPath, a.handle(a.answerChat)) // JSON, or a stream
	return r
}

// cors lets the pages that passed the origin gate read the answers.
func (a *api) cors() func(http.Handler) http.Handler {
	return cors.Handler(cors.Options{
		AllowOriginFunc:  func(_ *http.Request, origin string) bool { return a.Origins.Allows(origin) },
		AllowedMethods:   []string{http.MethodPost},
		AllowedHeaders:   []string{"Content-Type", "Authorization", "Chatkit-Frame-Instance-Id", "Docent-Page", "Docent-Widget"},
		AllowCredentials: true,
		ExposedHeaders: []string{
			"Retry-After", "RateLimit", "RateLimit-Policy", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-Request-Id",
		},
		MaxAge: 7200, // Seconds: the most that Chromium honours.
	})
}

// handler answers a request, or returns an error for [api.fail] to answer.
type handler func(w http.ResponseWriter, r *http.Request) error

func (a *api) handle(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			a.fail(w, r, err)
		}
	}
}

// guard makes a middleware of a check: a request that fails it ends there.
func (a *api) guard(check func(*http.Request) error) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return a.handle(func(w http.ResponseWriter, r *http.Request) error {
			if err := check(r); err != nil {
				return err
			}
			next.ServeHTTP(w, r)
			return nil
		})
	}
}

// budget cancels what a request still waits for when its time is up.
func (a *api) budget(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), a.Timeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

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

// methodNotAllowed lists the methods that work at this path. The router also calls
// it for methods that it does not know, at any path.
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

// recoverPanic answers a panic with an error.
func (a *api) recoverPanic(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v)
			default:
				a.fail(w, r, fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
			}
		}()
		next.ServeHTTP(w, r)
	})
}
