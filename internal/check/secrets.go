package check

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	"docent/internal/app"
	"docent/internal/config"
	"docent/internal/docs"
	"docent/internal/redact"
	"docent/internal/secrets"
)

// wanted is a secret to be checked.
type wanted struct {
	variable string
	ref      secrets.Ref
	// shape returns what is wrong with the value, if anything, and what is unusual.
	// It must not quote the value.
	shape func(secret string) (fault string, notes []string)

	value  secrets.Value
	source *secrets.Source // Nil until it is open.
	usable bool
}

// secretsAndOpenAI checks the secrets, and then OpenAI with them. The index, which
// needs none to be loaded, is loaded in the meantime.
func (c *checkup) secretsAndOpenAI(ctx context.Context) {
	index := make(chan *docs.Site, 1)
	go func() { index <- c.index(ctx) }()
	key := &wanted{variable: apiKeyCheck, ref: c.config.APIKey, shape: apiKeyShape}
	workflow := &wanted{variable: workflowCheck, ref: c.config.WorkflowID, shape: workflowShape}
	store := &wanted{variable: vectorStoreIDCheck, ref: c.config.VectorStoreID, shape: vectorStoreShape}
	identity := &wanted{variable: identityCheck, ref: c.config.IdentityKey, shape: identityShape}
	var wg sync.WaitGroup
	if !c.config.Instructions.IsZero() {
		wg.Go(func() { c.set(instructionsCheck, c.instructions(ctx)) })
	}
	for _, w := range []*wanted{key, workflow, store, identity} {
		if !w.ref.IsZero() {
			wg.Go(func() { c.set(w.variable, c.secret(ctx, w)) })
		}
	}
	wg.Wait()
	defer key.close()
	defer workflow.close()
	defer store.close()
	defer identity.close()
	if identity.ref.IsZero() {
		c.set(identityCheck, c.derivedIdentity(key))
	}
	var uses sync.WaitGroup
	uses.Go(func() { c.session(ctx, key, workflow) })
	uses.Go(func() { c.docs(ctx, key, store, index) })
	uses.Wait()
}

// session checks the hosted workflow, if there is one.
func (c *checkup) session(ctx context.Context, key, workflow *wanted) {
	if !c.config.Hosted() {
		c.set(workflowCheck, skipped("not set: Docent answers on its own"))
		c.set(openAICheck, skipped("no session is minted there without CHATKIT_WORKFLOW_ID"))
		return
	}
	if !key.usable || !workflow.usable {
		c.set(openAICheck, skipped("it needs a usable OPENAI_API_KEY and CHATKIT_WORKFLOW_ID"))
		return
	}
	c.set(openAICheck, c.openAI(ctx, key.value, workflow.value))
}

// secret reads one secret as the service does, but separately: one that cannot be
// read must not hide the state of the others.
func (c *checkup) secret(ctx context.Context, w *wanted) Result {
	ref := w.ref.WithProject(c.config.Project)
	var err error
	w.source, err = app.OpenSecrets(ctx, c.config, slog.New(slog.DiscardHandler),
		secrets.Want{Variable: w.variable, Ref: ref, Into: &w.value})
	if err != nil {
		return fail("%s", redact.OneLine(strings.TrimPrefix(err.Error(), w.variable+": ")))
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
		if c.config.OnCloudRun && (w.variable == apiKeyCheck || w.variable == identityCheck) {
			notes = append(notes, "anyone who may view the service's configuration can read it there: store it in Secret Manager and refer to it as sm://NAME")
		}
	case ref.Pinned():
		detail += ", pinned"
	default:
		detail += ", looked up again every " + c.config.SecretsTTL.String()
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
		return "it is a workflow ID: check that OPENAI_API_KEY and CHATKIT_WORKFLOW_ID are not swapped", nil
	case !strings.HasPrefix(secret, "sk-"):
		notes = append(notes, "OpenAI's keys begin with sk-, this one does not: that is right only for a gateway of your own")
	}
	return fault, notes
}

func workflowShape(secret string) (fault string, notes []string) {
	fault = headerFault(secret)
	switch {
	case strings.HasPrefix(secret, "sk-"):
		return "it is an API key: check that OPENAI_API_KEY and CHATKIT_WORKFLOW_ID are not swapped", nil
	case !strings.HasPrefix(secret, "wf_"):
		notes = append(notes, "workflow IDs begin with wf_, this one does not")
	}
	return fault, notes
}

func vectorStoreShape(secret string) (fault string, notes []string) {
	fault = headerFault(secret)
	switch {
	case strings.HasPrefix(secret, "sk-"):
		return "it is an API key: check that OPENAI_API_KEY and VECTOR_STORE_ID are not swapped", nil
	case !strings.HasPrefix(secret, "vs_"):
		notes = append(notes, "the IDs of vector stores begin with vs_, this one does not")
	}
	return fault, notes
}

func identityShape(secret string) (fault string, notes []string) {
	if _, err := app.DeriveKeys(secret, ""); err != nil {
		return err.Error(), nil
	}
	return "", nil
}

// headerFault returns what in a value an HTTP header cannot carry, or was most
// likely stored by mistake.
func headerFault(secret string) string {
	found, _ := secrets.HeaderFault(secret)
	if found == "" {
		return ""
	}
	return "it contains " + found + ": store it again without it"
}

// derivedIdentity checks a configuration without an identity key, which is valid
// where the API key stays the same or instances share nothing.
func (c *checkup) derivedIdentity(key *wanted) Result {
	if key.source == nil {
		return skipped("it is derived from OPENAI_API_KEY, which could not be read")
	}
	if _, err := app.DeriveKeys("", key.value.Get()); err != nil {
		return fail("%v", err)
	}
	result := ok("not set: derived from OPENAI_API_KEY")
	result.note("with another API key all visitors lose their conversations: for production, store %d or more random bytes as IDENTITY_KEY", config.MinIdentityKey)
	return result
}
