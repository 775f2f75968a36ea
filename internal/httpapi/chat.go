package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"docent/internal/address"
	"docent/internal/answer"
	"docent/internal/chatkit"
	"docent/internal/openai"
)

// maxChatBody is the largest body of a chat request. A message of 4,000 characters
// and a quote of 2,000 take less than 40 kB, however they are escaped.
const maxChatBody = 64 << 10

// maxPage is the length of the longest URL of a page that is believed.
const maxPage = 2048

// Chats answers what ChatKit asks.
type Chats interface {
	Query(ctx context.Context, visitor string, r chatkit.Request) (any, error)
	Begin(ctx context.Context, visitor string, r chatkit.Request, reader chatkit.Reader) (*chatkit.Turn, error)
}

// Chat is what the chat route needs, besides the parts of all routes.
type Chat struct {
	Chats Chats
	// Messages limits the messages of an address, and Queries its other requests.
	// Each is nil for no limit.
	Messages, Queries Limiter
	// Answers limits the answers of a day. It is nil for no limit.
	Answers Answers
	// AtOnce is how many answers this instance writes at the same time, or -1 for
	// any number.
	AtOnce int
	// TrustedProxies are those of the chat route.
	TrustedProxies address.Proxies
	// AnswerTimeout bounds an answer.
	AnswerTimeout time.Duration
	// Stopping ends when the answers that are being written must end, because the
	// process does.
	Stopping context.Context //nolint:containedctx // It is a signal, as in http.Server.BaseContext.
}

// chat is the state of one chat request.
type chat struct {
	visitor string
	body    []byte
	request chatkit.Request
	// streams says that the client reads events, and widget that it is the widget's,
	// which understands statuses.
	streams, widget bool
	admitted        bool    // A message that has passed all limits.
	stream          *stream // Once it is open.
	result          chatkit.Result
	answer          answer.Outcome // Of a message that was answered.
}

// Observe notes how the question of a chat request was answered, for the request's
// record. ctx is that of the question.
func Observe(ctx context.Context, o answer.Outcome) { exchangeOf(ctx).chat.answer = o }

// attrs are what the log has of a chat request: counts and times, never a text.
func (c *chat) attrs(started time.Time) []slog.Attr {
	attrs := []slog.Attr{slog.String("type", string(c.request.Type))}
	if c.request.Kind != "" {
		attrs = append(attrs, slog.String("feedback", string(c.request.Kind)), slog.Int("items", len(c.request.ItemIDs)))
	}
	if s := c.stream; s != nil && s.events > 0 {
		attrs = append(attrs,
			slog.Float64("first_event_ms", milliseconds(s.first.Sub(started))), slog.Int("events", s.events), slog.Int("bytes", s.bytes))
	}
	if c.result.Unsaved != nil {
		attrs = append(attrs, slog.String("unsaved", c.result.Unsaved.Error()))
	}
	if c.answer.Code != "" {
		attrs = append(attrs, answerAttrs(c.answer)...)
	}
	return attrs
}

// answerAttrs are what the log has of an answer. A time that was not reached is left
// out.
func answerAttrs(o answer.Outcome) []slog.Attr {
	var attrs []slog.Attr
	for _, t := range []struct {
		name string
		took time.Duration
	}{{"passages_ms", o.ToPassages}, {"first_delta_ms", o.ToFirst}, {"answer_ms", o.Total}} {
		if t.took > 0 {
			attrs = append(attrs, slog.Float64(t.name, milliseconds(t.took)))
		}
	}
	attrs = append(attrs, slog.Int("passages", o.Passages), slog.Int("citations", o.Citations),
		slog.Int64("tokens_in", o.InputTokens), slog.Int64("tokens_cached", o.CachedTokens), slog.Int64("tokens_out", o.OutputTokens))
	if o.WithoutVectors != nil {
		attrs = append(attrs, slog.String("without_vectors", o.WithoutVectors.Error()))
	}
	return attrs
}

// level is that of a message's record. The limits bound how many there are.
func (c *chat) level(outcome string) slog.Level {
	var upstream *openai.Error
	switch {
	case outcome == codeInternal:
		return slog.LevelError
	case errors.As(c.answer.Err, &upstream) && upstream.Kind != openai.Busy && upstream.Kind != openai.Timeout:
		return slog.LevelError // Only an operator can change that.
	case c.answer.Err != nil, c.answer.WithoutVectors != nil,
		c.result.Unsaved != nil && !errors.Is(c.result.Unsaved, chatkit.ErrNotFound):
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}

// asChat marks a request as ChatKit's: from here on its errors are what ChatKit can
// show.
func (a *api) asChat(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := exchangeOf(r.Context())
		x.backend = backendDocs
		x.chat = &chat{
			streams: strings.Contains(r.Header.Get("Accept"), "text/event-stream"),
			widget:  r.Header.Get("Docent-Widget") == "1",
		}
		next.ServeHTTP(w, r)
	})
}

// sessionValid takes the visitor from the session token.
func (a *api) sessionValid(r *http.Request) error {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return &failure{code: codeSessionInvalid}
	}
	id, ok := a.Visitors.OpenSession(token)
	if !ok {
		return &failure{code: codeSessionInvalid}
	}
	exchangeOf(r.Context()).chat.visitor = id
	return nil
}

// readRequest reads the body whole: net/http notices only then that a client leaves.
// It must arrive within the time of a request.
func (a *api) readRequest(w http.ResponseWriter, r *http.Request, c *chat) error {
	conn := http.NewResponseController(w)
	if err := conn.SetReadDeadline(time.Now().Add(a.Timeout)); err != nil {
		return fmt.Errorf("a body could not be given a deadline: %w", err)
	}
	var err error
	c.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxChatBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &failure{code: codeRequestTooLarge}
	case err != nil:
		return &failure{code: codeBadRequest, message: "The request did not arrive whole and in time."} // err has addresses in it.
	}
	// Past the deadline, net/http would not notice any more that the client leaves.
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("a deadline could not be removed: %w", err)
	}
	c.request, err = chatkit.Parse(c.body)
	if c.request.Type.Streams() {
		c.streams = true
	}
	return err
}

// answerChat answers a request of ChatKit's with JSON or a stream.
func (a *api) answerChat(w http.ResponseWriter, r *http.Request) error {
	c := exchangeOf(r.Context()).chat
	if err := a.readRequest(w, r, c); err != nil {
		return err
	}
	if c.request.Type.Streams() {
		return a.answerMessage(w, r, c)
	}
	return a.answerQuery(w, r, c)
}

// answerQuery answers with JSON.
func (a *api) answerQuery(w http.ResponseWriter, r *http.Request, c *chat) error {
	if err := a.take(r, a.Chat.Queries); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.Timeout)
	defer cancel()
	v, err := a.Chat.Chats.Query(ctx, c.visitor, c.request)
	if err != nil {
		return err
	}
	x := exchangeOf(r.Context())
	x.outcome = outcomeOK
	return a.writeJSON(w, http.StatusOK, v)
}

// answerMessage answers with a stream.
func (a *api) answerMessage(w http.ResponseWriter, r *http.Request, c *chat) error {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	m := a.repeats.begin(c, r.Header.Get("Chatkit-Frame-Instance-Id"), a.Now(), cancel)
	defer a.repeats.end(m)

	turn, err := m.takeOver(ctx)
	if err != nil {
		return err
	}
	if turn != nil {
		a.slots.add(c.visitor)
	} else if turn, err = a.admit(r, c); err != nil {
		return err
	}
	defer a.slots.release(c.visitor)
	m.admit(turn)
	c.admitted = true

	defer context.AfterFunc(a.Chat.Stopping, func() { cancel(errStopping) })()
	ctx, stop := context.WithTimeoutCause(ctx, a.Chat.AnswerTimeout, errAnswerTimeout)
	defer stop()
	s := c.open(w, a.Now)
	defer s.end()
	c.result = turn.Stream(ctx, s.send)
	x := exchangeOf(r.Context())
	x.outcome = c.outcome()
	switch {
	case c.answer.Err != nil:
		x.cause = c.answer.Err
	case !c.result.Left: // What says that a connection broke has addresses in it.
		x.cause = c.result.Err
	}
	return nil
}

// admit takes a message through the limits. What costs nothing is checked first, and
// what a later limit refuses, the earlier ones get back. Reading a thread that does
// not exist costs a message: else it would be free to guess. So does leaving while
// the answers of the day are counted: else reading threads would be free.
func (a *api) admit(r *http.Request, c *chat) (*chatkit.Turn, error) {
	if err := a.answersLeft(r); err != nil {
		return nil, err
	}
	if err := a.take(r, a.Chat.Messages); err != nil {
		return nil, err
	}
	message := exchangeOf(r.Context()).decision
	giveBack := func() {
		if a.Chat.Messages != nil {
			a.Chat.Messages.Return(message)
		}
	}
	if !a.slots.take(c.visitor) {
		giveBack()
		return nil, &failure{code: codeBusy, retryAfter: busyPause}
	}
	turn, err := a.Chat.Chats.Begin(r.Context(), c.visitor, c.request, readerOf(r))
	if err != nil {
		a.slots.release(c.visitor)
		return nil, err
	}
	if err := a.takeAnswer(r); err != nil {
		a.slots.release(c.visitor)
		if r.Context().Err() == nil {
			giveBack()
		}
		return nil, err
	}
	return turn, nil
}

// readerOf returns what the request says of its visitor's situation. A page that is
// not of the request's origin is not believed.
func readerOf(r *http.Request) chatkit.Reader {
	reader := chatkit.Reader{Language: r.Header.Get("Accept-Language")}
	page := r.Header.Get("Docent-Page")
	u, err := url.Parse(page)
	if err == nil && len(page) <= maxPage && u.Scheme+"://"+u.Host == r.Header.Get("Origin") &&
		u.User == nil && !strings.ContainsAny(page, "?#") {
		reader.Page = page
	}
	return reader
}

// Why an answer is cut short while its visitor is there.
var (
	errStopping      = &chatkit.StreamError{Code: answer.Cut, Message: "The assistant is being restarted. Please try again.", Retry: true}
	errAnswerTimeout = &chatkit.StreamError{Code: codeUpstreamTimeout, Message: problems[codeUpstreamTimeout].message, Retry: true}
)

// outcome returns how a message was answered, for the log.
func (c *chat) outcome() string {
	var told *chatkit.StreamError
	switch {
	case c.result.Err == nil: // The message may be one whose answer was written for its first request.
		return cmp.Or(c.answer.Code, answer.Answered)
	case errors.Is(c.result.Err, chatkit.ErrReplaced):
		return outcomeReplaced
	case c.result.Left:
		return codeClientGone
	case errors.As(c.result.Err, &told):
		return told.Code
	default:
		return codeInternal
	}
}
