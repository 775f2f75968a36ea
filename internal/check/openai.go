package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"docent/internal/app"
	"docent/internal/hosted"
	"docent/internal/openai"
	"docent/internal/redact"
	"docent/internal/secrets"
)

const (
	// user scopes the threads of the session that is minted. No visitor has it.
	user = "docent-check"
	// cancelTimeout bounds the end of that session.
	cancelTimeout = 5 * time.Second
	// maxWords is how many characters of each text of OpenAI's are reported.
	maxWords = 300
	// shutdown is when hosted workflows end, according to OpenAI's deprecations
	// page of 2026-06-03.
	shutdown = "2026-11-30"
)

// openAI mints a session as the service does, and cancels it.
func (c *checkup) openAI(ctx context.Context, apiKey, workflowID secrets.Value) Result {
	client := app.NewOpenAI(c.config, apiKey)
	defer client.Close()
	minter := app.NewMinter(c.config, client, workflowID)
	mint, cancel := context.WithTimeout(ctx, c.config.RequestTimeout)
	defer cancel()
	began := time.Now()
	session, err := minter.Mint(mint, user)
	took := time.Since(began)
	if err != nil {
		return c.unminted(err, took, redact.Secrets(apiKey.Get(), workflowID.Get()))
	}
	result := ok("minted a session in %d ms and cancelled it", took.Milliseconds())
	if reason := cancelSession(ctx, minter, session); reason != "" {
		result = ok("minted a session in %d ms", took.Milliseconds())
		result.note("the session could not be cancelled (%s): it ends on its own in %s", reason, time.Until(session.ExpiresAt).Round(time.Minute))
	}
	if c.config.WorkflowVersion != "" {
		result.note("OpenAI does not check CHATKIT_WORKFLOW_VERSION before the first message: send one in the chat")
	}
	result.note("OpenAI ends hosted workflows on %s", shutdown)
	return result
}

// cancelSession returns why a session could not be cancelled, or nothing. A
// session that cannot be cancelled is still a good one.
func cancelSession(ctx context.Context, minter *hosted.Minter, session hosted.Session) string {
	if session.ID == "" {
		return "OpenAI sent no ID for it"
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

// unminted returns the result for a session that could not be minted.
func (c *checkup) unminted(err error, took time.Duration, hidden redact.Rule) Result {
	waited := fmt.Sprintf("no answer in %s (REQUEST_TIMEOUT is %s)", took.Round(time.Second), c.config.RequestTimeout)
	result := unanswered(err, waited, func(e *openai.Error) string { return cause(e.Status) }, hidden)
	if c.config.Docs() && hosted.WorkflowRefused(err) {
		// The service works, and a deployment must not fail because of a workflow that
		// OpenAI has ended.
		result.Notes = slices.Insert(result.Notes, 0, result.Detail)
		result.Status, result.Detail = OK, "OpenAI refuses the workflow, so Docent answers from the docs: remove CHATKIT_WORKFLOW_ID"
	}
	return result
}

// unanswered names the likely cause of a failed call, and quotes OpenAI. waited says
// of a call without an answer how long that took.
func unanswered(err error, waited string, cause func(*openai.Error) string, hidden redact.Rule) Result {
	quote := func(text string) string { return redact.Text(text, maxWords, hidden) }
	var e *openai.Error
	if !errors.As(err, &e) {
		return fail("%s", quote(err.Error()))
	}
	if e.Kind == openai.Timeout {
		return fail("%s: see https://status.openai.com, and check that OPENAI_BASE_URL can be reached from here", waited)
	}
	if e.Status == 0 {
		return fail("no answer (%s): check that OPENAI_BASE_URL is right and can be reached from here", quote(errors.Unwrap(e).Error()))
	}
	result := fail("OpenAI answered %d: %s", e.Status, cause(e))
	words := quote(e.Message)
	if words != "" {
		result.note("OpenAI says: %s", words)
	}
	// What has a message in OpenAI's form comes from OpenAI.
	if why := errors.Unwrap(e); why != nil && words == "" {
		result.note("%s: check that OPENAI_BASE_URL is right", quote(why.Error()))
	}
	if labels := quote(e.Type + " " + e.Code); labels != "" || e.RequestID != "" {
		result.note("for OpenAI's support: %s, x-request-id %s", cmp.Or(labels, "no code"), cmp.Or(quote(e.RequestID), "missing"))
	}
	return result
}

// cause returns the likely cause of an answer's status, and how to fix it.
func cause(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "the API key is wrong, revoked or expired: create one at https://platform.openai.com/api-keys and store it as OPENAI_API_KEY"
	case status == http.StatusForbidden:
		return "the API key may not do this: give it write access to ChatKit, and check its project's limits and that OpenAI serves this region"
	case status == http.StatusNotFound, status == http.StatusGone:
		return "the workflow is not published, or belongs to another project than the API key, or its ID is mistyped: " +
			"check CHATKIT_WORKFLOW_ID in Agent Builder, in the key's own project (OpenAI ends hosted workflows on " + shutdown + ")"
	case status == http.StatusTooManyRequests:
		return "the project is over its rate limit or out of credit: see https://platform.openai.com/settings/organization/limits"
	case status >= http.StatusInternalServerError:
		return "OpenAI is down: see https://status.openai.com and try again"
	case status < http.StatusBadRequest:
		return "the server that answered is not OpenAI's API"
	default:
		return "it refused the request: check CHATKIT_WORKFLOW_ID, CHATKIT_WORKFLOW_VERSION, SESSION_TTL and SESSION_REQUESTS_PER_MINUTE"
	}
}
