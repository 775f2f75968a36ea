package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"docent/internal/app"
	"docent/internal/hosted"
	"docent/internal/openai"
	"docent/internal/secrets"
)

const (
	// user scopes the threads of the session that is minted: it is no visitor's.
	user = "docent-check"
	// cancelTimeout bounds the end of that session.
	cancelTimeout = 5 * time.Second
	// maxWords is how many characters of OpenAI's own message are reported.
	maxWords = 300
	// shutdown is when hosted workflows end, by OpenAI's deprecations page of
	// 2026-06-03.
	shutdown = "2026-11-30"
)

// openAI mints a session as the service does, and cancels it.
func (r *run) openAI(ctx context.Context, apiKey, workflowID secrets.Value) Result {
	client := app.NewOpenAI(r.config, apiKey)
	defer client.Close()
	minter := app.NewMinter(r.config, client, workflowID)
	mint, cancel := context.WithTimeout(ctx, r.config.RequestTimeout)
	defer cancel()
	began := time.Now()
	session, err := minter.Mint(mint, user)
	took := time.Since(began)
	if err != nil {
		return r.unminted(err, took, apiKey.Get(), workflowID.Get())
	}
	result := ok("minted a session in %d ms and cancelled it", took.Milliseconds())
	if reason := cancelSession(ctx, minter, session); reason != "" {
		result = ok("minted a session in %d ms", took.Milliseconds())
		result.note("the session could not be cancelled (%s): it ends by itself in %s", reason, time.Until(session.ExpiresAt).Round(time.Minute))
	}
	if r.config.WorkflowVersion != "" {
		result.note("CHATKIT_WORKFLOW_VERSION is not looked at until the first message: try one")
	}
	result.note("OpenAI ends hosted workflows on %s", shutdown)
	return result
}

// cancelSession returns why a session could not be cancelled, or nothing. Where
// OpenAI does not offer that, the session is none the worse.
func cancelSession(ctx context.Context, minter *hosted.Minter, session hosted.Session) string {
	if session.ID == "" {
		return "OpenAI did not name it"
	}
	ctx, cancel := context.WithTimeout(ctx, cancelTimeout)
	defer cancel()
	err := minter.Cancel(ctx, session.ID)
	var e *openai.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e) && e.Status != 0:
		return fmt.Sprintf("OpenAI answered %d", e.Status)
	default:
		return "OpenAI did not answer"
	}
}

// unminted names the likely cause of a failure, and quotes what OpenAI said.
func (r *run) unminted(err error, took time.Duration, apiKey, workflowID string) Result {
	var e *openai.Error
	if !errors.As(err, &e) {
		return fail("%s", redact(err.Error(), apiKey, workflowID))
	}
	if e.Kind == openai.Timeout {
		return fail("no answer in %s (REQUEST_TIMEOUT is %s): look at https://status.openai.com, and whether OPENAI_BASE_URL can be reached from here",
			took.Round(time.Second), r.config.RequestTimeout)
	}
	if e.Status == 0 {
		return fail("no answer (%s): look whether OPENAI_BASE_URL is right and can be reached from here", redact(errors.Unwrap(e).Error(), apiKey, workflowID))
	}
	result := fail("OpenAI answered %d: %s", e.Status, cause(e.Status))
	if words := redact(e.Message, apiKey, workflowID); words != "" {
		result.note("OpenAI says: %s", words)
	}
	if why := errors.Unwrap(e); why != nil {
		result.note("%s: look whether OPENAI_BASE_URL is right", redact(why.Error(), apiKey, workflowID))
	}
	if labels := redact(strings.TrimSpace(e.Type+" "+e.Code), apiKey, workflowID); labels != "" || e.RequestID != "" {
		result.note("for OpenAI's support: %s, x-request-id %s", cmp.Or(labels, "no code"), cmp.Or(redact(e.RequestID, apiKey, workflowID), "missing"))
	}
	return result
}

// cause is what most likely lies behind an answer's status, and what to do.
func cause(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "the API key is wrong, revoked or expired: make one at https://platform.openai.com/api-keys and store it as OPENAI_API_KEY"
	case status == http.StatusForbidden:
		return "the API key may not do this: give it write access to ChatKit, look at its project's limits, and whether OpenAI serves this region"
	case status == http.StatusNotFound, status == http.StatusGone:
		return "the workflow is not published, or belongs to another project than the API key, or its ID is mistyped: " +
			"look at CHATKIT_WORKFLOW_ID in Agent Builder, in the key's own project (OpenAI ends hosted workflows on " + shutdown + ")"
	case status == http.StatusTooManyRequests:
		return "the project is over its rate limit or out of credit: look at https://platform.openai.com/settings/organization/limits"
	case status >= http.StatusInternalServerError:
		return "OpenAI is out of order: look at https://status.openai.com and try again"
	case status < http.StatusBadRequest:
		return "what answers is not OpenAI's ChatKit API"
	default:
		return "it refused the request: look at CHATKIT_WORKFLOW_ID, CHATKIT_WORKFLOW_VERSION, SESSION_TTL and SESSION_REQUESTS_PER_MINUTE"
	}
}

// masked matches a credential that was made unreadable in part.
var masked = regexp.MustCompile(`\S*\*\*\S*`)

// redact makes a text of somebody else's fit for the report.
func redact(text string, hidden ...string) string {
	for _, s := range hidden {
		text = strings.ReplaceAll(text, s, "[redacted]")
	}
	text = masked.ReplaceAllString(oneLine(text), "[redacted]")
	if runes := []rune(text); len(runes) > maxWords {
		return string(runes[:maxWords]) + "…"
	}
	return text
}
