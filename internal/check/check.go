// Package check tries everything that the service depends on, with the
// service's own configuration and code. It reports of each part whether it works
// and how to fix it.
//
// It is safe to run against production. It counts in a bucket that no visitor
// has, which leaves one document that expires, it cancels the one session that it
// mints, and it deletes the one conversation that it stores. Where Docent answers
// from the docs, an answer of at most 16 tokens, an embedding of one word or a search
// of a vector store costs far less than a cent. A report never holds a secret, nor a
// part of one, nor a prompt or a text of the docs, whatever the other side answers.
package check

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/api/option"

	"docent/internal/app"
	"docent/internal/config"
	"docent/internal/redact"
)

const (
	// defaultBudget leaves the process a second to start and one to end, of 30.
	defaultBudget = 28 * time.Second
	// grace is how long a check may still run after its context has ended.
	grace = 500 * time.Millisecond
)

// The names of the checks, in the order of the report. They are stable.
const (
	configurationCheck  = "configuration"
	originsCheck        = "origins"
	trustedProxiesCheck = "trusted-proxies"
	backendCheck        = "backend"
	domainKeysCheck     = "domain-keys"
	projectCheck        = "project"
	apiKeyCheck         = "OPENAI_API_KEY" //nolint:gosec // A variable's name.
	workflowCheck       = "CHATKIT_WORKFLOW_ID"
	vectorStoreIDCheck  = "VECTOR_STORE_ID"
	instructionsCheck   = "ASSISTANT_INSTRUCTIONS"
	identityCheck       = "IDENTITY_KEY"
	firestoreCheck      = "firestore"
	ttlCheck            = "firestore-ttl"
	threadsCheck        = "threads"
	threadsTTLCheck     = "threads-ttl"
	openAICheck         = "openai"
	indexCheck          = "docs-index"
	vectorStoreCheck    = "vector-store"
	answerCheck         = "answer"
)

var order = []string{
	configurationCheck, originsCheck, trustedProxiesCheck, backendCheck, domainKeysCheck, projectCheck,
	apiKeyCheck, workflowCheck, vectorStoreIDCheck, instructionsCheck, identityCheck,
	firestoreCheck, ttlCheck, threadsCheck, threadsTTLCheck, openAICheck, indexCheck, vectorStoreCheck, answerCheck,
}

// checksOf returns the names of the checks that a configuration needs.
func checksOf(c config.Config) []string {
	return slices.DeleteFunc(slices.Clone(order), func(name string) bool {
		switch name {
		case backendCheck, domainKeysCheck, threadsCheck, threadsTTLCheck, answerCheck:
			return !c.Docs()
		case indexCheck:
			return c.DocsIndex == ""
		case vectorStoreIDCheck, vectorStoreCheck:
			return c.VectorStoreID.IsZero()
		case instructionsCheck: // Without docs it is of no use, but the service reads it.
			return c.Instructions.IsZero()
		default:
			return false
		}
	})
}

// Options are what a check is made with.
type Options struct {
	// Environment has the variables that configure the service.
	Environment map[string]string
	// Version is that of the program, for the report.
	Version string
	// Budget is how long all dependencies together may take. Default 28s.
	Budget time.Duration
	// Admin has the options to reach Firestore's admin API. If it is empty, the
	// client uses Google's endpoint and the default credentials, and an emulator,
	// which has no such API, is not asked.
	Admin []option.ClientOption
}

// checkup is one run of all checks.
type checkup struct {
	config config.Config
	budget time.Duration
	admin  []option.ClientOption

	mu      sync.Mutex
	results map[string]Result
}

// Run checks everything, the dependencies in parallel.
func Run(ctx context.Context, o Options) Report {
	c := &checkup{budget: cmp.Or(o.Budget, defaultBudget), admin: o.Admin, results: map[string]Result{}}
	var err error
	c.config, err = config.Load(o.Environment)
	names := checksOf(c.config)
	c.set(configurationCheck, configuration(c.config, err))
	if err == nil {
		c.set(originsCheck, origins(c.config))
		c.set(trustedProxiesCheck, trustedProxies(c.config))
		c.set(backendCheck, backend(c.config))
		c.set(domainKeysCheck, domainKeys(c.config))
		c.dependencies(ctx)
	}
	report := Report{Version: o.Version}
	missing := c.missing(ctx, err == nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		result, found := c.results[name]
		if !found {
			result = missing
			result.Name = name
		}
		report.Checks = append(report.Checks, result)
	}
	return report
}

// missing returns the result of a check that has not run, or has not ended.
func (c *checkup) missing(ctx context.Context, configured bool) Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !configured:
		return skipped("the configuration has to be right first")
	case ctx.Err() != nil:
		return fail("interrupted")
	case c.results[projectCheck].Status == Fail:
		return skipped("the project has to be known first")
	default:
		return fail("no answer within %s", c.budget)
	}
}

// dependencies checks all dependencies. It returns when all have been checked or
// the budget is over, even if a library ignores its context.
func (c *checkup) dependencies(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, c.budget)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if !c.project(ctx) {
			return
		}
		var wg sync.WaitGroup
		wg.Go(func() { c.secretsAndOpenAI(ctx) })
		wg.Go(func() { c.firestore(ctx) })
		wg.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		select {
		case <-done:
		case <-time.After(grace):
		}
	}
}

// project finds the Google Cloud project, which is part of every name at Google.
// It reports whether the other checks can go on.
func (c *checkup) project(ctx context.Context) bool {
	if c.config.Project != "" {
		c.set(projectCheck, ok("%s, from GOOGLE_CLOUD_PROJECT", c.config.Project))
		return true
	}
	found, err := app.WithProject(ctx, c.config)
	switch {
	case err != nil:
		c.set(projectCheck, fail("%s", redact.OneLine(err.Error())))
		return false
	case found.Project == "":
		c.set(projectCheck, skipped("nothing in this configuration needs one"))
	default:
		c.set(projectCheck, ok("%s, from the metadata server", found.Project))
	}
	c.config = found
	return true
}

func (c *checkup) set(name string, result Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	result.Name = name
	c.results[name] = result
}
