// Package config reads the environment, once, into one validated struct.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"docent/internal/address"
	"docent/internal/origin"
	"docent/internal/secrets"

	"github.com/caarlos0/env/v11"
)

// Config is the whole configuration. Its tags are the source of the documentation:
// env is the variable, envDefault its default, want a description of valid values. A
// variable that is set to an empty text counts as not set.
type Config struct {
	// Port is a port to listen on, on all interfaces, or an address and port. 0
	// picks a free port.
	Port string `env:"PORT" envDefault:"8787" want:"a port, or an address and port such as 127.0.0.1:8787"`
	// AllowedOrigins are the pages that may ask for sessions.
	AllowedOrigins origin.List `env:"ALLOWED_ORIGINS" want:"set: the origins of your docs site, separated by commas, such as https://docs.example.com"`

	// APIKey is OpenAI's.
	APIKey secrets.Ref `env:"OPENAI_API_KEY" want:"set: an OpenAI API key, or a reference to one such as sm://openai-api-key"`
	// WorkflowID names the hosted workflow that answers, if one does.
	WorkflowID secrets.Ref `env:"CHATKIT_WORKFLOW_ID" want:"set: a workflow ID such as wf_123, or a reference to one such as sm://chatkit-workflow-id; or set DOCS_INDEX, to answer from the docs"`
	// WorkflowVersion is the version to run, or empty for the latest deployed.
	WorkflowVersion string `env:"CHATKIT_WORKFLOW_VERSION"`
	// BaseURL is the API's, without a trailing slash.
	BaseURL string `env:"OPENAI_BASE_URL" envDefault:"https://api.openai.com/v1" want:"an http or https URL without user, query or fragment"`
	// SessionTTL is how long a session lives, or 0 for OpenAI's own 10 minutes.
	SessionTTL time.Duration `env:"SESSION_TTL" want:"whole seconds from 1s to 10m"`
	// SessionRequestsPerMinute is how many messages a minute a session takes, or
	// nil for OpenAI's own 10.
	SessionRequestsPerMinute *int `env:"SESSION_REQUESTS_PER_MINUTE" want:"a whole number from 1"`
	// History gives a visitor OpenAI's history panel.
	History bool `env:"CHATKIT_HISTORY" envDefault:"true" want:"true or false"`
	// FileUpload lets a visitor upload files.
	FileUpload bool `env:"CHATKIT_FILE_UPLOAD" envDefault:"false" want:"true or false"`

	// DocsIndex is where the index of the docs is, if Docent answers from one.
	DocsIndex string `env:"DOCS_INDEX" want:"a path, an https URL, or an http URL on loopback; and not set together with VECTOR_STORE_ID"`
	// DocsIndexRefresh is the age after which an index's URL is asked again.
	DocsIndexRefresh time.Duration `env:"DOCS_INDEX_REFRESH" envDefault:"5m" want:"a duration of at least 10s"`
	// VectorStoreID names the vector store of OpenAI's that Docent answers from, if
	// it does.
	VectorStoreID secrets.Ref `env:"VECTOR_STORE_ID" want:"the ID of a vector store such as vs_123, or a reference to one such as sm://vector-store-id"`
	// DomainKeys are the keys of OpenAI's domain allow-list, by host.
	DomainKeys DomainKeys `env:"CHATKIT_DOMAIN_KEYS" want:"a list such as docs.example.com=domain_pk_123, separated by commas"`
	// PublicURL is the service's base URL without a slash at the end, or empty for
	// that of each request.
	PublicURL string `env:"PUBLIC_URL" want:"an https URL without a path, such as https://docent-123.run.app; http only on loopback"`
	// AnswerModel writes the answers.
	AnswerModel string `env:"ANSWER_MODEL" envDefault:"gpt-6-luna" want:"the name of a model, such as gpt-6-luna"`
	// AnswerEffort is how much the model reasons, or empty for the model's own default.
	AnswerEffort string `env:"ANSWER_EFFORT" envDefault:"none" want:"a reasoning effort such as none or low, or empty for the model's own"`
	// AnswerMaxTokens is how long an answer may be, with what the model reasons.
	AnswerMaxTokens int `env:"ANSWER_MAX_TOKENS" envDefault:"1200" want:"a whole number from 16 to 32000"`
	// Instructions are the site's own. A literal that begins with @ names a file.
	Instructions secrets.Ref `env:"ASSISTANT_INSTRUCTIONS" want:"a text of at most 8000 characters, a file such as @instructions.txt, or a reference such as sm://instructions"`
	// AnswerTimeout bounds an answer.
	AnswerTimeout time.Duration `env:"ANSWER_TIMEOUT" envDefault:"60s" want:"a duration from 5s to 100s"`
	// AnswersAtOnce is how many answers this instance writes at the same time.
	AnswersAtOnce Limit `env:"ANSWERS_AT_ONCE" envDefault:"256" want:"a whole number from 0 to 1000000, or unlimited"`
	// MessagesPerMinute is how many messages a minute one address may send.
	MessagesPerMinute Limit `env:"RATE_LIMIT_MESSAGES_PER_MINUTE" envDefault:"10" want:"a whole number from 0 to 1000000, or unlimited"`
	// AnswersPerDayPerAddress is how many answers a day one address may have, and its
	// IPv6 /48 ten times as many.
	AnswersPerDayPerAddress Limit `env:"ANSWERS_PER_DAY_PER_ADDRESS" envDefault:"100" want:"a whole number from 0 to 1000000, or unlimited"`
	// AnswersPerDay is how many answers a day all visitors together may have.
	AnswersPerDay Limit `env:"ANSWERS_PER_DAY" envDefault:"2000" want:"a whole number from 0 to 1000000, or unlimited"`
	// ThreadsKeep is how long a conversation is kept after its last message.
	ThreadsKeep time.Duration `env:"THREADS_KEEP" envDefault:"720h" want:"a duration of at least 1h"`

	// RateLimit is how many sessions a minute one address may have.
	RateLimit int `env:"RATE_LIMIT_PER_MINUTE" envDefault:"5" want:"a whole number from 1 to 1000000"`
	// InstanceLimit is how many sessions a minute this instance mints.
	InstanceLimit int `env:"RATE_LIMIT_INSTANCE_PER_MINUTE" envDefault:"600" want:"a whole number from 1 to 1000000"`
	// Store is where buckets live: [Firestore] or [Memory].
	Store string `env:"RATE_LIMIT_STORE" want:"firestore or memory"`
	// OnStoreFailure is what happens while the store is down: [Local] or [Deny].
	OnStoreFailure string `env:"RATE_LIMIT_ON_STORE_FAILURE" envDefault:"local" want:"local or deny"`

	// Project is the Google Cloud project, or empty where the metadata server is
	// to be asked.
	Project string `env:"GOOGLE_CLOUD_PROJECT" want:"set outside Cloud Run: the ID of your Google Cloud project"`
	// FirestoreDatabase and FirestoreCollection hold the buckets.
	FirestoreDatabase   string `env:"FIRESTORE_DATABASE" envDefault:"(default)"`
	FirestoreCollection string `env:"FIRESTORE_COLLECTION" envDefault:"rate_limits" want:"a collection's name without slashes"`
	// FirestoreEmulator is where an emulator listens, if Firestore is one.
	FirestoreEmulator string `env:"FIRESTORE_EMULATOR_HOST" want:"a host and port such as 127.0.0.1:8080"`
	// SecretManagerEmulator is a plain gRPC endpoint without credentials.
	SecretManagerEmulator string `env:"SECRET_MANAGER_EMULATOR_HOST" want:"a host and port such as 127.0.0.1:8081"`
	// SecretsTTL is the age after which a latest secret is looked up again.
	SecretsTTL time.Duration `env:"SECRETS_TTL" envDefault:"5m" want:"a duration of at least 1s"`

	// TrustedProxies are the hops whose X-Forwarded-For entries are believed.
	TrustedProxies address.Proxies `env:"TRUSTED_PROXIES" want:"CIDRs such as 10.0.0.0/8, cloud-run or firebase-hosting, separated by commas"`
	// RequestTimeout is the whole budget of one request.
	RequestTimeout time.Duration `env:"REQUEST_TIMEOUT" envDefault:"8s" want:"a duration from 1s to 60s"`
	// IdentityKey is the secret behind visitor cookies and address hashes. It is
	// zero where it is to be derived from the API key.
	IdentityKey secrets.Ref `env:"IDENTITY_KEY" want:"a secret of 32 bytes or more, or a reference to one with its version such as sm://docent-identity-key#1"`

	// LogLevel and LogFormat (json or text) shape the log.
	LogLevel  slog.Level `env:"LOG_LEVEL" envDefault:"info" want:"debug, info, warn or error"`
	LogFormat string     `env:"LOG_FORMAT" want:"json or text"`

	// OnCloudRun says that this is a Cloud Run service or job.
	OnCloudRun bool `env:"-"`
}

// Values of Store and OnStoreFailure.
const (
	Firestore = "firestore"
	Memory    = "memory"
	Local     = "local"
	Deny      = "deny"
)

// EmulatorProject is the default project with the Firestore emulator, where any name
// works.
const EmulatorProject = "docent-local"

// MinIdentityKey is the least length of an identity key in bytes, the length of the
// hashes that are made with it.
const MinIdentityKey = 32

// MaxAnswerTimeout is the longest ANSWER_TIMEOUT. Cloud Run must not end a request
// before Docent does.
const MaxAnswerTimeout = 100 * time.Second

// DefaultSessionTTL is how long a session lives where SESSION_TTL does not say:
// OpenAI's own bound for hosted sessions.
const DefaultSessionTTL = 10 * time.Minute

// maxLimit bounds the limits.
const maxLimit = 1_000_000

// Fault is one thing that is wrong.
type Fault struct{ Variable, Problem string }

// Faults is the error for a bad configuration: all that is wrong with it, in the
// order of [Config]. It never contains a secret.
type Faults []Fault

func (f Faults) Error() string {
	var b strings.Builder
	b.WriteString("the configuration is not right:")
	for _, fault := range f {
		fmt.Fprintf(&b, "\n  %s %s", fault.Variable, fault.Problem)
	}
	return b.String()
}

// Load reads the variables of an environment. Its error is [Faults]; the
// configuration's log settings can be used even then.
func Load(environment map[string]string) (Config, error) {
	var c Config
	faults := parse(&c, environment)
	_, service := environment["K_SERVICE"]
	_, job := environment["CLOUD_RUN_JOB"]
	c.OnCloudRun = service || job
	c.fillIn()
	if value, set := environment["ANSWER_EFFORT"]; set && value == "" { // Here, an empty text is a value.
		c.AnswerEffort = ""
	}
	if key, ok := c.APIKey.Literal(); ok {
		if found, never := secrets.HeaderFault(key); never {
			faults = append(faults, Fault{"OPENAI_API_KEY", "must not have " + found + " in it, which no HTTP header can carry: set the key again without that"})
		}
	}
	for _, variable := range c.invalid() {
		if !faults.has(variable) {
			faults = append(faults, Fault{variable, "must be " + want(variable)})
		}
	}
	if missing := c.MissingDomainKeys(); len(missing) > 0 && !c.Hosted() && !faults.has("CHATKIT_DOMAIN_KEYS") {
		faults = append(faults, Fault{"CHATKIT_DOMAIN_KEYS", MissingKeys(missing)})
	}
	if len(faults) > 0 {
		slices.SortStableFunc(faults, func(a, b Fault) int { return cmp.Compare(position(a.Variable), position(b.Variable)) })
		return c, faults
	}
	return c, nil
}

// LoadSome is [Load] for what needs only some of the variables: the others count as
// not set, and what is wrong with them is no fault.
func LoadSome(environment map[string]string, variables ...string) (Config, error) {
	some := map[string]string{}
	for _, name := range variables {
		if value, ok := environment[name]; ok {
			some[name] = value
		}
	}
	c, err := Load(some)
	var all Faults
	if !errors.As(err, &all) {
		return c, err
	}
	var faults Faults
	for _, f := range all {
		if slices.Contains(variables, f.Variable) {
			faults = append(faults, f)
		}
	}
	if len(faults) > 0 {
		return c, faults
	}
	return c, nil
}

// parse fills the struct. What the library says of a fault quotes the value,
// which may be a secret in the wrong place, so only our parsers' words are kept.
func parse(c *Config, environment map[string]string) Faults {
	err := env.ParseWithOptions(c, env.Options{
		Environment: environment,
		FuncMap: map[reflect.Type]env.ParserFunc{
			reflect.TypeFor[origin.List](): func(v string) (any, error) { return origin.Parse(v) },
			reflect.TypeFor[slog.Level]():  parseLevel,
		},
	})
	var all env.AggregateError
	if !errors.As(err, &all) {
		return nil
	}
	var faults Faults
	for _, err := range all.Errors {
		var p env.ParseError
		if !errors.As(err, &p) {
			faults = append(faults, Fault{"environment", err.Error()})
			continue
		}
		field, _ := reflect.TypeFor[Config]().FieldByName(p.Name)
		variable := field.Tag.Get("env")
		var joined interface{ Unwrap() []error }
		switch {
		case errors.As(p.Err, &joined):
			for _, e := range joined.Unwrap() {
				faults = append(faults, Fault{variable, e.Error()})
			}
		case field.Type == reflect.TypeFor[secrets.Ref]():
			faults = append(faults, Fault{variable, p.Err.Error()})
		default:
			faults = append(faults, Fault{variable, "must be " + want(variable)})
		}
	}
	return faults
}

func parseLevel(v string) (any, error) {
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if strings.EqualFold(v, l.String()) {
			return l, nil
		}
	}
	return nil, errors.New("unknown level")
}

// fillIn sets the defaults that depend on where this runs.
func (c *Config) fillIn() {
	if c.Store == "" {
		c.Store = Memory
		if c.OnCloudRun || c.FirestoreEmulator != "" {
			c.Store = Firestore
		}
	}
	if c.LogFormat == "" {
		c.LogFormat = "text"
		if c.OnCloudRun {
			c.LogFormat = "json"
		}
	}
	if c.TrustedProxies == nil && c.OnCloudRun {
		c.TrustedProxies = address.CloudRun()
	}
	if c.Project == "" && c.FirestoreEmulator != "" {
		c.Project = EmulatorProject
	}
	c.BaseURL = strings.TrimRight(c.BaseURL, "/")
	c.PublicURL = strings.TrimRight(c.PublicURL, "/")
	c.APIKey = c.APIKey.ForHeader()
}

// invalid returns the variables whose values parse, but are not right.
func (c *Config) invalid() []string {
	var bad []string
	check := func(variable string, ok bool) {
		if !ok {
			bad = append(bad, variable)
		}
	}
	within := func(n, low, high int) bool { return low <= n && n <= high }

	check("PORT", isListenAddress(c.Address()))
	check("ALLOWED_ORIGINS", c.AllowedOrigins.String() != "")
	check("OPENAI_API_KEY", !c.APIKey.IsZero())
	check("CHATKIT_WORKFLOW_ID", c.Hosted() || c.Docs())
	check("DOCS_INDEX", c.DocsIndex == "" || isIndex(c.DocsIndex) && c.VectorStoreID.IsZero())
	check("DOCS_INDEX_REFRESH", c.DocsIndexRefresh >= 10*time.Second)
	check("ANSWER_MODEL", modelName.MatchString(c.AnswerModel))
	check("ANSWER_EFFORT", c.AnswerEffort == "" || effort.MatchString(c.AnswerEffort))
	check("ANSWER_MAX_TOKENS", within(c.AnswerMaxTokens, 16, 32_000))
	check("ASSISTANT_INSTRUCTIONS", c.instructionsOK())
	check("PUBLIC_URL", c.PublicURL == "" || isPublicURL(c.PublicURL))
	check("ANSWER_TIMEOUT", c.AnswerTimeout >= 5*time.Second && c.AnswerTimeout <= MaxAnswerTimeout)
	check("THREADS_KEEP", c.ThreadsKeep >= time.Hour)
	check("OPENAI_BASE_URL", isBaseURL(c.BaseURL))
	check("SESSION_TTL", c.SessionTTL == 0 || c.SessionTTL >= time.Second && c.SessionTTL <= 10*time.Minute && c.SessionTTL%time.Second == 0)
	check("SESSION_REQUESTS_PER_MINUTE", c.SessionRequestsPerMinute == nil || *c.SessionRequestsPerMinute >= 1)
	check("RATE_LIMIT_PER_MINUTE", within(c.RateLimit, 1, maxLimit))
	check("RATE_LIMIT_INSTANCE_PER_MINUTE", within(c.InstanceLimit, 1, maxLimit))
	check("RATE_LIMIT_STORE", c.Store == Firestore || c.Store == Memory)
	check("RATE_LIMIT_ON_STORE_FAILURE", c.OnStoreFailure == Local || c.OnStoreFailure == Deny)
	check("GOOGLE_CLOUD_PROJECT", c.Project != "" || c.OnCloudRun || !c.NeedsProject())
	check("FIRESTORE_COLLECTION", !strings.Contains(c.FirestoreCollection, "/"))
	check("FIRESTORE_EMULATOR_HOST", c.FirestoreEmulator == "" || isHostPort(c.FirestoreEmulator))
	check("SECRET_MANAGER_EMULATOR_HOST", c.SecretManagerEmulator == "" || isHostPort(c.SecretManagerEmulator))
	check("SECRETS_TTL", c.SecretsTTL >= time.Second)
	check("REQUEST_TIMEOUT", c.RequestTimeout >= time.Second && c.RequestTimeout <= time.Minute)
	check("IDENTITY_KEY", c.identityKeyOK())
	check("LOG_FORMAT", c.LogFormat == "json" || c.LogFormat == "text")
	return bad
}

// identityKeyOK reports whether the identity key is stable. A key derived from a
// rotating API key would change with it, on each instance at a different moment, and
// every cookie and bucket ID with it.
func (c *Config) identityKeyOK() bool {
	if c.IdentityKey.IsZero() {
		// Conversations that are kept depend on it for longer than an API key lives.
		return c.Store == Memory || c.APIKey.Pinned() && !c.Docs()
	}
	literal, ok := c.IdentityKey.Literal()
	return c.IdentityKey.Pinned() && (!ok || len(literal) >= MinIdentityKey)
}

// NeedsProject reports whether anything but the log depends on the project.
func (c *Config) NeedsProject() bool {
	return c.Store == Firestore || c.APIKey.NeedsProject() || c.WorkflowID.NeedsProject() || c.VectorStoreID.NeedsProject() ||
		c.Instructions.NeedsProject() || c.IdentityKey.NeedsProject()
}

// Address is what to listen on.
func (c *Config) Address() string {
	if strings.Contains(c.Port, ":") {
		return c.Port
	}
	return ":" + c.Port
}

func isListenAddress(s string) bool {
	host, ok := hostOf(s)
	_, notIP := netip.ParseAddr(host)
	return ok && (host == "" || host == "localhost" || notIP == nil)
}

func isHostPort(s string) bool {
	host, ok := hostOf(s)
	return ok && host != ""
}

// hostOf returns the host before a valid port.
func hostOf(s string) (host string, ok bool) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return host, err == nil
}

func isBaseURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" &&
		u.User == nil && u.RawQuery == "" && !u.ForceQuery && !strings.Contains(s, "#")
}

// want returns what the value of a variable should look like.
func want(variable string) string {
	return reflect.TypeFor[Config]().Field(position(variable)).Tag.Get("want")
}

// position is where a variable stands in [Config], or -1.
func position(variable string) int {
	i := 0
	for field := range reflect.TypeFor[Config]().Fields() {
		if field.Tag.Get("env") == variable {
			return i
		}
		i++
	}
	return -1
}

func (f Faults) has(variable string) bool {
	return slices.ContainsFunc(f, func(fault Fault) bool { return fault.Variable == variable })
}
