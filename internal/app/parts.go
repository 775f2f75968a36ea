package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"docent/internal/answer"
	"docent/internal/chatkit"
	"docent/internal/config"
	"docent/internal/docs"
	"docent/internal/firestore"
	"docent/internal/hosted"
	"docent/internal/httpapi"
	"docent/internal/openai"
	"docent/internal/ratelimit"
	"docent/internal/secrets"
	"docent/internal/visitor"
)

// warmTimeout bounds the read that opens the connection to Firestore at start.
const warmTimeout = 2 * time.Second

// queriesPerMinute is how many requests of ChatKit's that are not messages an
// address may send to one instance: opening a conversation takes two, and a visitor
// who looks through the history some dozens.
const queriesPerMinute = 120

// parts are what has to be opened before the first request and closed after
// the last.
type parts struct {
	apiKey, workflowID, vectorStoreID, instructions secrets.Value

	secrets *secrets.Source
	keys    Keys
	store   *firestore.Client // Nil where memory is the store.
	cold    error             // Why the store could not be warmed.
	openai  *openai.Client
	answers *ratelimit.Day // Nil where Docent does not answer itself.
	index   *docs.Source   // Nil where passages do not come from an index.
	// siteInstructions returns the site's own instructions, or "".
	siteInstructions func() string
}

// leaseTimeout bounds giving back what is left of the answers of the day, when the
// answers in flight are written. Cloud Run kills the process a second after the
// server's 9 s.
const leaseTimeout = 800 * time.Millisecond

// openParts opens everything that the service needs from outside, in parallel, so
// that a start takes one round trip at a time and reports all faults at once.
// Secrets that cannot be read stop a start; a store that does not answer does not.
func openParts(ctx context.Context, c config.Config, log *slog.Logger) (*parts, error) {
	p := &parts{}
	var (
		openings                    sync.WaitGroup
		noSecrets, noStore, noIndex error
	)
	openings.Go(func() { noSecrets = p.openSecrets(ctx, c, log) })
	if c.DocsIndex != "" {
		openings.Go(func() { noIndex = p.openDocs(ctx, c, log) })
	}
	if c.Store == config.Firestore {
		openings.Go(func() { noStore = p.openStore(ctx, c) })
	}
	openings.Wait()
	if err := errors.Join(noSecrets, noStore, noIndex); err != nil {
		p.close(log)
		return nil, err
	}
	return p, nil
}

func (p *parts) openSecrets(ctx context.Context, c config.Config, log *slog.Logger) (err error) {
	var identityKey secrets.Value
	p.secrets, err = OpenSecrets(ctx, c, log,
		secrets.Want{Variable: "OPENAI_API_KEY", Ref: c.APIKey.WithProject(c.Project), Into: &p.apiKey},
		secrets.Want{Variable: "CHATKIT_WORKFLOW_ID", Ref: c.WorkflowID.WithProject(c.Project), Into: &p.workflowID},
		secrets.Want{Variable: "VECTOR_STORE_ID", Ref: c.VectorStoreID.WithProject(c.Project), Into: &p.vectorStoreID},
		secrets.Want{Variable: "ASSISTANT_INSTRUCTIONS", Ref: c.Instructions.WithProject(c.Project), Into: &p.instructions},
		secrets.Want{Variable: "IDENTITY_KEY", Ref: c.IdentityKey.WithProject(c.Project), Into: &identityKey},
	)
	if err != nil {
		return fmt.Errorf("secrets could not be read:\n%w", err)
	}
	if p.keys, err = DeriveKeys(identityKey.Get(), p.apiKey.Get()); err != nil {
		return err
	}
	return p.openInstructions(c)
}

func (p *parts) openStore(ctx context.Context, c config.Config) (err error) {
	p.store, err = OpenStore(ctx, c)
	if err != nil {
		return fmt.Errorf("the rate limit's store could not be opened: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, warmTimeout)
	defer cancel()
	p.cold = p.store.Warm(ctx, c.FirestoreCollection)
	return nil
}

// OpenStore opens the configuration's Firestore, without connecting to it yet.
func OpenStore(ctx context.Context, c config.Config) (*firestore.Client, error) {
	return firestore.Open(ctx, firestore.Options{Project: c.Project, Database: c.FirestoreDatabase, Emulator: c.FirestoreEmulator})
}

func (p *parts) close(log *slog.Logger) {
	var errs []error
	if p.answers != nil {
		ctx, cancel := context.WithTimeout(context.Background(), leaseTimeout)
		defer cancel()
		p.answers.Drain(ctx)
	}
	if p.index != nil {
		p.index.Close()
	}
	if p.openai != nil {
		p.openai.Close()
	}
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	if p.secrets != nil {
		errs = append(errs, p.secrets.Close())
	}
	if err := errors.Join(errs...); err != nil {
		log.Warn("closing", "error", err)
	}
}

// connect makes the routes of the parts.
//
// Answers end when stopping does.
func (p *parts) connect(stopping context.Context, c config.Config, log *slog.Logger) (http.Handler, error) {
	limiter, err := p.limiter(c, "per-ip", c.RateLimit, c.InstanceLimit, log)
	if err != nil {
		return nil, err
	}
	p.openai = NewOpenAI(c, p.apiKey)
	o := httpapi.Options{
		Origins:        c.AllowedOrigins,
		Limiter:        limiter,
		Visitors:       visitor.NewSigner(p.keys.Visitors, httpapi.BasePath, time.Now),
		TrustedProxies: c.TrustedProxies,
		Timeout:        c.RequestTimeout,
		Project:        c.Project,
		Log:            log,
		Now:            time.Now,
	}
	if c.Hosted() {
		o.Minter = NewMinter(c, p.openai, p.workflowID)
	}
	if c.Docs() {
		if missing := c.MissingDomainKeys(); len(missing) > 0 {
			log.Warn("CHATKIT_DOMAIN_KEYS " + config.MissingKeys(missing))
		}
		o.Docs = &httpapi.Docs{
			PublicURL:  c.PublicURL,
			DomainKeys: c.DomainKeys,
			SessionTTL: cmp.Or(c.SessionTTL, config.DefaultSessionTTL),
			HTTPS:      c.OnCloudRun,
			Ready:      p.docsReady,
		}
		o.Chat, err = p.chat(stopping, c, log)
	}
	return httpapi.New(o), err
}

// chat returns what answers messages.
func (p *parts) chat(stopping context.Context, c config.Config, log *slog.Logger) (*httpapi.Chat, error) {
	var threads chatkit.Store = chatkit.NewMemory(c.ThreadsKeep, time.Now)
	if p.store != nil {
		kept, err := p.store.Threads(c.ThreadsKeep, p.keys.Threads, time.Now)
		if err != nil {
			return nil, fmt.Errorf("the conversations' store could not be opened: %w", err)
		}
		threads = kept
	}
	if err := p.limitAnswers(c, log); err != nil {
		return nil, err
	}
	chat := &httpapi.Chat{
		Chats: chatkit.New(chatkit.Options{
			Store: threads, Responder: p.responder(c, p.passages(), httpapi.Observe), StoreTimeout: StoreTimeout(c), Now: time.Now,
		}),
		// A query costs a visitor's own instance one read.
		Queries: ratelimit.New(ratelimit.Options{
			Name: "queries", Limit: queriesPerMinute, Window: time.Minute, Log: log, Now: time.Now,
		}),
		Answers:        p.answers,
		AtOnce:         int(c.AnswersAtOnce),
		TrustedProxies: c.TrustedProxies.WithoutFirebaseHosting(),
		AnswerTimeout:  c.AnswerTimeout,
		Stopping:       stopping,
	}
	if c.MessagesPerMinute == config.Unlimited {
		return chat, nil
	}
	messages, err := p.limiter(c, "messages", int(c.MessagesPerMinute), 0, log)
	chat.Messages = messages
	return chat, err
}

// passages returns where passages come from.
func (p *parts) passages() docs.Searcher {
	if p.index != nil {
		return p.index
	}
	return &openai.VectorStore{Client: p.openai, ID: p.vectorStoreID.Get}
}

// responder returns what answers a question from passages.
func (p *parts) responder(c config.Config, passages docs.Searcher, observe func(context.Context, answer.Outcome)) *answer.Docs {
	return answer.New(answer.Options{
		Searcher: passages, Model: p.openai,
		ModelName: c.AnswerModel, Effort: c.AnswerEffort, MaxTokens: c.AnswerMaxTokens,
		Instructions:     p.siteInstructions,
		SafetyIdentifier: p.keys.SafetyID,
		Observe:          observe,
		Now:              time.Now,
	})
}

// limiter returns a limiter of addresses for each minute, which counts where the
// configuration says.
func (p *parts) limiter(c config.Config, name string, limit, ceiling int, log *slog.Logger) (*ratelimit.Limiter, error) {
	o := ratelimit.Options{
		Name:         name,
		Limit:        limit,
		Window:       time.Minute,
		Ceiling:      ceiling,
		Deny:         c.OnStoreFailure == config.Deny,
		StoreTimeout: StoreTimeout(c),
		Log:          log,
		Now:          time.Now,
	}
	var err error
	if o.Store, err = p.buckets(c); err != nil {
		return nil, err
	}
	l := ratelimit.New(o)
	if p.cold != nil {
		l.StoreFailed(p.cold)
	}
	return l, nil
}

// limitAnswers opens the limits of a day.
func (p *parts) limitAnswers(c config.Config, log *slog.Logger) error {
	buckets, err := p.buckets(c)
	if err != nil {
		return err
	}
	address, site := c.AnswersPerDayPerAddress, c.AnswersPerDay
	if site > 0 && (address >= site || address == config.Unlimited) {
		log.Warn("one address can use up the answers of a day: set ANSWERS_PER_DAY_PER_ADDRESS well below ANSWERS_PER_DAY")
	}
	p.answers = ratelimit.NewDay(ratelimit.DayOptions{
		PerAddress:   int(address),
		Site:         int(site),
		Store:        buckets,
		Deny:         c.OnStoreFailure == config.Deny,
		StoreTimeout: StoreTimeout(c),
		Log:          log,
		Now:          time.Now,
	})
	if p.cold != nil {
		p.answers.StoreFailed(p.cold)
	}
	return nil
}

// buckets returns where limits are counted for all instances, or nil where each
// counts in memory.
func (p *parts) buckets(c config.Config) (ratelimit.Store, error) {
	if p.store == nil {
		return nil, nil //nolint:nilnil // As said.
	}
	buckets, err := p.store.Buckets(c.FirestoreCollection, p.keys.Buckets)
	if err != nil {
		return nil, fmt.Errorf("the rate limit's store could not be opened: %w", err)
	}
	return buckets, nil
}

// NewOpenAI returns a client for the configured API. The caller closes it.
func NewOpenAI(c config.Config, apiKey secrets.Value) *openai.Client {
	return openai.New(openai.Options{BaseURL: c.BaseURL, APIKey: apiKey, Now: time.Now})
}

// NewMinter returns what mints the configured sessions.
func NewMinter(c config.Config, client *openai.Client, workflowID secrets.Value) *hosted.Minter {
	return hosted.New(client, hosted.Options{
		WorkflowID:        workflowID,
		WorkflowVersion:   c.WorkflowVersion,
		SessionTTL:        c.SessionTTL,
		RequestsPerMinute: c.SessionRequestsPerMinute,
		History:           c.History,
		FileUpload:        c.FileUpload,
		Now:               time.Now,
	})
}

// StoreTimeout is how long a count may take: half of a request's budget at most,
// since the rest is OpenAI's.
func StoreTimeout(c config.Config) time.Duration {
	return min(ratelimit.StoreTimeout, c.RequestTimeout/2)
}
