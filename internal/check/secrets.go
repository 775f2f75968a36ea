package check

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"unicode"

	"docent/internal/app"
	"docent/internal/config"
	"docent/internal/secrets"
)

// wanted is a secret to be checked.
type wanted struct {
	variable string
	ref      secrets.Ref
	// shape says what is wrong with the value, if anything is, and what is
	// unusual about it. It must not quote it.
	shape func(secret string) (fault string, notes []string)

	value  secrets.Value
	source *secrets.Source // Nil until it is open.
	usable bool
}

// secretsAndOpenAI checks the secrets, and then OpenAI with them.
func (r *run) secretsAndOpenAI(ctx context.Context) {
	key := &wanted{variable: apiKeyCheck, ref: r.config.APIKey, shape: apiKeyShape}
	workflow := &wanted{variable: workflowCheck, ref: r.config.WorkflowID, shape: workflowShape}
	identity := &wanted{variable: identityCheck, ref: r.config.IdentityKey, shape: identityShape}
	var wg sync.WaitGroup
	for _, w := range []*wanted{key, workflow, identity} {
		if !w.ref.IsZero() {
			wg.Go(func() { r.set(w.variable, r.secret(ctx, w)) })
		}
	}
	wg.Wait()
	defer key.close()
	defer workflow.close()
	defer identity.close()
	if identity.ref.IsZero() {
		r.set(identityCheck, r.derivedIdentity(key))
	}
	if !key.usable || !workflow.usable {
		r.set(openAICheck, skipped("it takes a usable OPENAI_API_KEY and CHATKIT_WORKFLOW_ID"))
		return
	}
	r.set(openAICheck, r.openAI(ctx, key.value, workflow.value))
}

// secret reads one secret as the service does, but by itself: one that cannot be
// had must not hide how the others are.
func (r *run) secret(ctx context.Context, w *wanted) Result {
	ref := w.ref.WithProject(r.config.Project)
	var err error
	w.source, err = secrets.Open(ctx, app.SecretOptions(r.config, slog.New(slog.DiscardHandler)),
		secrets.Want{Variable: w.variable, Ref: ref, Into: &w.value})
	if err != nil {
		return fail("%s", oneLine(strings.TrimPrefix(err.Error(), w.variable+": ")))
	}
	detail := ref.String()
	_, literal := ref.Literal()
	if literal {
		detail = "set in the environment"
	}
	fault, notes := w.shape(w.value.Get())
	if fault != "" {
		return fail("%s: %s", detail, fault)
	}
	w.usable = true
	switch {
	case literal:
		if r.config.OnCloudRun && w.variable != workflowCheck {
			notes = append(notes, "whoever may look at the service's configuration can read it there: keep it in Secret Manager and refer to it as sm://NAME")
		}
	case ref.Pinned():
		detail += ", pinned"
	default:
		detail += ", looked up again every " + r.config.SecretsTTL.String()
	}
	return verdict(detail, nil, notes)
}

func (w *wanted) close() {
	if w.source != nil {
		_ = w.source.Close() // The process ends soon.
	}
}

func apiKeyShape(secret string) (fault string, notes []string) {
	fault = headerFault(secret)
	switch {
	case strings.HasPrefix(secret, "wf_"):
		return "it is a workflow's ID: look whether OPENAI_API_KEY and CHATKIT_WORKFLOW_ID are swapped", nil
	case !strings.HasPrefix(secret, "sk-"):
		notes = append(notes, "OpenAI's keys begin with sk-, this one does not: right for a gateway of your own alone")
	}
	return fault, notes
}

func workflowShape(secret string) (fault string, notes []string) {
	fault = headerFault(secret)
	switch {
	case strings.HasPrefix(secret, "sk-"):
		return "it is an API key: look whether OPENAI_API_KEY and CHATKIT_WORKFLOW_ID are swapped", nil
	case !strings.HasPrefix(secret, "wf_"):
		notes = append(notes, "workflow IDs begin with wf_, this one does not")
	}
	return fault, notes
}

func identityShape(secret string) (fault string, notes []string) {
	if _, err := app.DeriveKeys(secret, ""); err != nil {
		return err.Error(), nil
	}
	return "", nil
}

// headerFault says what in a value keeps it out of a request's header, or is
// most likely a slip of whoever stored it.
func headerFault(secret string) string {
	found, _ := secrets.HeaderFault(secret)
	if found == "" {
		return ""
	}
	return "there is " + found + " in it: store it again without that"
}

// derivedIdentity is for a configuration without an identity key, which is
// valid where the API key stays the same or nothing is shared.
func (r *run) derivedIdentity(key *wanted) Result {
	if key.source == nil {
		return skipped("it is derived from OPENAI_API_KEY, which could not be read")
	}
	if _, err := app.DeriveKeys("", key.value.Get()); err != nil {
		return fail("%v", err)
	}
	result := ok("not set: derived from OPENAI_API_KEY")
	result.note("another API key makes every visitor a new one, without their conversations: for production store %d random bytes or more of its own", config.MinIdentityKey)
	return result
}

// oneLine makes a text of somebody else's fit for a line of the report.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
}
