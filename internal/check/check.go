// Package check tries everything that the service depends on, with the
// service's own configuration and code, and says of each part whether it works
// and what would mend it.
//
// It is safe to run against production. It counts in a bucket that is no
// visitor's, which leaves one document that expires, and it cancels the one
// session that it mints. What it reports never holds a secret, nor a part of
// one, whatever the other side answers.
package check

import (
	"cmp"
	"context"
	"sync"
	"time"

	"google.golang.org/api/option"

	"docent/internal/app"
	"docent/internal/config"
)

const (
	// defaultBudget leaves the process a second to start and one to end, of 30.
	defaultBudget = 28 * time.Second
	// grace is how much longer one may be that does not end with its context.
	grace = 500 * time.Millisecond
)

// The names of the checks, in the order of the report. They are stable.
const (
	configurationCheck  = "configuration"
	originsCheck        = "origins"
	trustedProxiesCheck = "trusted-proxies"
	projectCheck        = "project"
	apiKeyCheck         = "OPENAI_API_KEY" //nolint:gosec // A variable's name.
	workflowCheck       = "CHATKIT_WORKFLOW_ID"
	identityCheck       = "IDENTITY_KEY"
	firestoreCheck      = "firestore"
	ttlCheck            = "firestore-ttl"
	openAICheck         = "openai"
)

var order = []string{
	configurationCheck, originsCheck, trustedProxiesCheck, projectCheck, apiKeyCheck, workflowCheck, identityCheck,
	firestoreCheck, ttlCheck, openAICheck,
}

// Options are what a check is made with.
type Options struct {
	// Environment has the variables that configure the service.
	Environment map[string]string
	// Version is that of the program, for the report.
	Version string
	// Budget is what all dependencies together may take. Default 28s.
	Budget time.Duration
	// Admin says how to reach Firestore's admin API. If it is empty the client
	// finds its way by itself, and an emulator, which has no such API, is not
	// asked.
	Admin []option.ClientOption
}

// run is one check under way.
type run struct {
	config config.Config
	budget time.Duration
	admin  []option.ClientOption

	mu      sync.Mutex
	results map[string]Result
}

// Run checks everything, dependencies at once.
func Run(ctx context.Context, o Options) Report {
	r := &run{budget: cmp.Or(o.Budget, defaultBudget), admin: o.Admin, results: map[string]Result{}}
	var err error
	r.config, err = config.Load(o.Environment)
	r.set(configurationCheck, configuration(r.config, err))
	if err == nil {
		r.set(originsCheck, origins(r.config))
		r.set(trustedProxiesCheck, trustedProxies(r.config))
		r.dependencies(ctx)
	}
	report := Report{Version: o.Version}
	missing := r.missing(ctx, err == nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range order {
		result, found := r.results[name]
		if !found {
			result = missing
			result.Name = name
		}
		report.Checks = append(report.Checks, result)
	}
	return report
}

// missing is what to say of a check that has no result.
func (r *run) missing(ctx context.Context, configured bool) Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !configured:
		return skipped("the configuration has to be right first")
	case ctx.Err() != nil:
		return fail("interrupted")
	case r.results[projectCheck].Status == Fail:
		return skipped("the project has to be known first")
	default:
		return fail("no answer within %s", r.budget)
	}
}

// dependencies returns when all of them have been checked, or when the time is
// over, even if a library should not notice that.
func (r *run) dependencies(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.budget)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if !r.project(ctx) {
			return
		}
		var wg sync.WaitGroup
		wg.Go(func() { r.secretsAndOpenAI(ctx) })
		wg.Go(func() { r.firestore(ctx) })
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

// project finds out the project, without which nothing at Google has a name. It
// reports whether the others can go on.
func (r *run) project(ctx context.Context) bool {
	if r.config.Project != "" {
		r.set(projectCheck, ok("%s, by GOOGLE_CLOUD_PROJECT", r.config.Project))
		return true
	}
	c, err := app.WithProject(ctx, r.config)
	switch {
	case err != nil:
		r.set(projectCheck, fail("%s", oneLine(err.Error())))
		return false
	case c.Project == "":
		r.set(projectCheck, skipped("nothing in this configuration needs one"))
	default:
		r.set(projectCheck, ok("%s, by the metadata server", c.Project))
	}
	r.config = c
	return true
}

func (r *run) set(name string, result Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	result.Name = name
	r.results[name] = result
}
