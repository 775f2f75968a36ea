package config_test

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"docent/internal/config"

	"github.com/google/go-cmp/cmp"
)

const key = "sk-test-0000000000000000"

// valid returns the least environment, changed by name=value settings.
func valid(settings ...string) map[string]string {
	e := map[string]string{
		"ALLOWED_ORIGINS":     "https://docs.example.com",
		"OPENAI_API_KEY":      key,
		"CHATKIT_WORKFLOW_ID": "wf_1",
	}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		e[name] = value
	}
	return e
}

// docsAlone returns settings of a Docent that answers from the docs alone.
func docsAlone(settings ...string) []string {
	return append([]string{"CHATKIT_WORKFLOW_ID=", "CHATKIT_DOMAIN_KEYS=docs.example.com=domain_pk_1"}, settings...)
}

func load(t *testing.T, settings ...string) config.Config {
	t.Helper()
	c, err := config.Load(valid(settings...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLoad_Defaults(t *testing.T) {
	t.Parallel()
	type facts struct {
		Address, BaseURL, Store, OnFailure, Format, Database, Collection, Project string
		TTL, SecretsTTL, Timeout                                                  time.Duration
		Limit, Ceiling                                                            int
		Messages, AtOnce                                                          config.Limit
		Answer, Keep                                                              time.Duration
		History, Upload, OnCloudRun                                               bool
		Level                                                                     slog.Level
		Trusted                                                                   []string
	}
	local := facts{
		Address: ":8787", BaseURL: "https://api.openai.com/v1", Store: "memory", OnFailure: "local", Format: "text",
		Database: "(default)", Collection: "rate_limits", SecretsTTL: 5 * time.Minute, Timeout: 8 * time.Second,
		Limit: 5, Ceiling: 600, History: true, Messages: 10, AtOnce: 256, Answer: time.Minute, Keep: 720 * time.Hour,
	}
	cloud := local
	cloud.Store, cloud.Format, cloud.OnCloudRun, cloud.Trusted = "firestore", "json", true, []string{"169.254.0.0/16"}
	emulator := local
	emulator.Store, emulator.Project = "firestore", config.EmulatorProject
	tests := []struct {
		name     string
		settings []string
		want     facts
	}{
		{"local", nil, local},
		{"set to nothing", []string{"PORT=", "LOG_LEVEL=", "RATE_LIMIT_STORE=", "TRUSTED_PROXIES=", "SESSION_TTL=", "IDENTITY_KEY="}, local},
		{"Cloud Run service", []string{"K_SERVICE=docent"}, cloud},
		{"Cloud Run job", []string{"CLOUD_RUN_JOB=check"}, cloud},
		{"Firestore emulator", []string{"FIRESTORE_EMULATOR_HOST=127.0.0.1:8080"}, emulator},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := load(t, tt.settings...)
			got := facts{
				c.Address(), c.BaseURL, c.Store, c.OnStoreFailure, c.LogFormat, c.FirestoreDatabase, c.FirestoreCollection, c.Project,
				c.SessionTTL, c.SecretsTTL, c.RequestTimeout, c.RateLimit, c.InstanceLimit, c.MessagesPerMinute, c.AnswersAtOnce, c.AnswerTimeout, c.ThreadsKeep, c.History, c.FileUpload, c.OnCloudRun, c.LogLevel, nil,
			}
			for _, p := range c.TrustedProxies {
				got.Trusted = append(got.Trusted, p.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("configuration (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoad_Answers(t *testing.T) {
	t.Parallel()
	c := load(t)
	if c.AnswerModel != "gpt-6-luna" || c.AnswerEffort != "none" || c.AnswerMaxTokens != 1200 || c.DocsIndexRefresh != 5*time.Minute {
		t.Errorf("defaults %q, %q, %d, %v", c.AnswerModel, c.AnswerEffort, c.AnswerMaxTokens, c.DocsIndexRefresh)
	}
	// Other variables count as not set then.
	if c := load(t, "ANSWER_EFFORT=", "ANSWER_MODEL="); c.AnswerEffort != "" || c.AnswerModel != "gpt-6-luna" {
		t.Errorf("set to nothing: effort %q, model %q", c.AnswerEffort, c.AnswerModel)
	}
}

func TestLoad_AllFaults(t *testing.T) {
	t.Parallel()
	_, err := config.Load(map[string]string{
		"PORT":                           "99999",
		"OPENAI_BASE_URL":                "https://user:hunter2@api.example.com",
		"SESSION_TTL":                    "11m",
		"SESSION_REQUESTS_PER_MINUTE":    "0",
		"CHATKIT_HISTORY":                key,
		"CHATKIT_FILE_UPLOAD":            "yes please",
		"DOCS_INDEX":                     "ftp://docs.example.com/index",
		"CHATKIT_DOMAIN_KEYS":            "docs.example.com=k,docs.example.com=k,https://a.example=k,b.example",
		"PUBLIC_URL":                     "http://docent.example.com",
		"ANSWER_TIMEOUT":                 "101s",
		"ANSWERS_AT_ONCE":                "-1",
		"RATE_LIMIT_MESSAGES_PER_MINUTE": "1000001",
		"ANSWERS_PER_DAY_PER_ADDRESS":    "1e3",
		"ANSWERS_PER_DAY":                "1000001",
		"THREADS_KEEP":                   "59m",
		"RATE_LIMIT_PER_MINUTE":          "0",
		"RATE_LIMIT_INSTANCE_PER_MINUTE": "1000001",
		"RATE_LIMIT_STORE":               "redis",
		"RATE_LIMIT_ON_STORE_FAILURE":    "open",
		"FIRESTORE_COLLECTION":           "a/b",
		"FIRESTORE_EMULATOR_HOST":        "http://localhost:8080",
		"SECRET_MANAGER_EMULATOR_HOST":   "localhost",
		"SECRETS_TTL":                    "1ms",
		"TRUSTED_PROXIES":                "cloud-run,10.0.0.1,0.0.0.0/0,::ffff:10.0.0.0/104," + key,
		"REQUEST_TIMEOUT":                "8",
		"IDENTITY_KEY":                   "too short",
		"LOG_LEVEL":                      "loud",
		"LOG_FORMAT":                     "xml",
	})
	const want = `the configuration is not right:
  PORT must be a port, or an address and port such as 127.0.0.1:8787
  ALLOWED_ORIGINS must be set: the origins of your docs site, separated by commas, such as https://docs.example.com
  OPENAI_API_KEY must be set: an OpenAI API key, or a reference to one such as sm://openai-api-key
  OPENAI_BASE_URL must be an http or https URL without user, query or fragment
  SESSION_TTL must be whole seconds from 1s to 10m
  SESSION_REQUESTS_PER_MINUTE must be a whole number from 1
  CHATKIT_HISTORY must be true or false
  CHATKIT_FILE_UPLOAD must be true or false
  DOCS_INDEX must be a path, an https URL, or an http URL on loopback; and not set together with VECTOR_STORE_ID
  CHATKIT_DOMAIN_KEYS entry 2 names a host that has a key already
  CHATKIT_DOMAIN_KEYS entry 3 must be a host and its key, such as docs.example.com=domain_pk_123
  CHATKIT_DOMAIN_KEYS entry 4 must be a host and its key, such as docs.example.com=domain_pk_123
  PUBLIC_URL must be an https URL without a path, such as https://docent-123.run.app; http only on loopback
  ANSWER_TIMEOUT must be a duration from 5s to 100s
  ANSWERS_AT_ONCE must be a whole number from 0 to 1000000, or unlimited
  RATE_LIMIT_MESSAGES_PER_MINUTE must be a whole number from 0 to 1000000, or unlimited
  ANSWERS_PER_DAY_PER_ADDRESS must be a whole number from 0 to 1000000, or unlimited
  ANSWERS_PER_DAY must be a whole number from 0 to 1000000, or unlimited
  THREADS_KEEP must be a duration of at least 1h
  RATE_LIMIT_PER_MINUTE must be a whole number from 1 to 1000000
  RATE_LIMIT_INSTANCE_PER_MINUTE must be a whole number from 1 to 1000000
  RATE_LIMIT_STORE must be firestore or memory
  RATE_LIMIT_ON_STORE_FAILURE must be local or deny
  FIRESTORE_COLLECTION must be a collection's name without slashes
  FIRESTORE_EMULATOR_HOST must be a host and port such as 127.0.0.1:8080
  SECRET_MANAGER_EMULATOR_HOST must be a host and port such as 127.0.0.1:8081
  SECRETS_TTL must be a duration of at least 1s
  TRUSTED_PROXIES entry 2 is an address, but must be a network: write 10.0.0.1/32
  TRUSTED_PROXIES entry 3 trusts everybody, which makes no address a visitor's: name the networks of your proxies
  TRUSTED_PROXIES entry 4 is IPv4-in-IPv6, which never matches: write it as IPv4
  TRUSTED_PROXIES entry 5 is neither a CIDR such as 10.0.0.0/8, nor cloud-run, nor firebase-hosting
  REQUEST_TIMEOUT must be a duration from 1s to 60s
  IDENTITY_KEY must be a secret of 32 bytes or more, or a reference to one with its version such as sm://docent-identity-key#1
  LOG_LEVEL must be debug, info, warn or error
  LOG_FORMAT must be json or text`
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

func TestLoad_Values(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", 32)
	tests := []struct {
		name     string
		settings []string
		bad      string // The variable at fault, or "".
	}{
		{"free port", []string{"PORT=0"}, ""},
		{"address and port", []string{"PORT=127.0.0.1:0"}, ""},
		{"IPv6 address and port", []string{"PORT=[::1]:8787"}, ""},
		{"host name for a port", []string{"PORT=docs.example.com:80"}, "PORT"},
		{"negative port", []string{"PORT=-1"}, "PORT"},
		{"several origins, one wrong", []string{"ALLOWED_ORIGINS=https://docs.example.com,https://*.com"}, "ALLOWED_ORIGINS"},
		{"blank origins", []string{"ALLOWED_ORIGINS= "}, "ALLOWED_ORIGINS"},
		{"trailing slash of the base", []string{"OPENAI_BASE_URL=http://127.0.0.1:1234/v1/"}, ""},
		{"base without a scheme", []string{"OPENAI_BASE_URL=api.openai.com/v1"}, "OPENAI_BASE_URL"},
		{"base with a query", []string{"OPENAI_BASE_URL=https://api.openai.com/v1?"}, "OPENAI_BASE_URL"},
		{"shortest session", []string{"SESSION_TTL=1s"}, ""},
		{"longest session", []string{"SESSION_TTL=10m"}, ""},
		{"session of half seconds", []string{"SESSION_TTL=1500ms"}, "SESSION_TTL"},
		{"session of no time", []string{"SESSION_TTL=-1s"}, "SESSION_TTL"},
		{"most requests", []string{"RATE_LIMIT_PER_MINUTE=1000000"}, ""},
		{"requests in words", []string{"RATE_LIMIT_PER_MINUTE=five"}, "RATE_LIMIT_PER_MINUTE"},
		{"Firestore without a project", []string{"RATE_LIMIT_STORE=firestore"}, "GOOGLE_CLOUD_PROJECT"},
		{"Firestore with a project", []string{"RATE_LIMIT_STORE=firestore", "GOOGLE_CLOUD_PROJECT=p"}, ""},
		{"short reference without a project", []string{"OPENAI_API_KEY=sm://key"}, "GOOGLE_CLOUD_PROJECT"},
		{"short reference on Cloud Run", []string{"OPENAI_API_KEY=sm://key", "K_SERVICE=docent", "IDENTITY_KEY=" + long}, ""},
		{"longest budget", []string{"REQUEST_TIMEOUT=60s"}, ""},
		{"budget too short", []string{"REQUEST_TIMEOUT=999ms"}, "REQUEST_TIMEOUT"},
		{"budget too long", []string{"REQUEST_TIMEOUT=61s"}, "REQUEST_TIMEOUT"},
		{"identity key", []string{"IDENTITY_KEY=" + long}, ""},
		{"pinned identity key", []string{"IDENTITY_KEY=sm://p/id#1"}, ""},
		{"latest identity key", []string{"IDENTITY_KEY=sm://p/id"}, "IDENTITY_KEY"},
		{"no identity key, rotating API key, Firestore", []string{"OPENAI_API_KEY=sm://p/key", "RATE_LIMIT_STORE=firestore", "GOOGLE_CLOUD_PROJECT=p"}, "IDENTITY_KEY"},
		{"no identity key, rotating API key, memory", []string{"OPENAI_API_KEY=sm://p/key"}, ""},
		{"no identity key, pinned API key, Firestore", []string{"OPENAI_API_KEY=sm://p/key#2", "RATE_LIMIT_STORE=firestore", "GOOGLE_CLOUD_PROJECT=p"}, ""},
		{"no backend", []string{"CHATKIT_WORKFLOW_ID="}, "CHATKIT_WORKFLOW_ID"},
		{"docs alone", docsAlone("DOCS_INDEX=docs.index"), ""},
		{"docs alone, no domain key", []string{"CHATKIT_WORKFLOW_ID=", "DOCS_INDEX=docs.index"}, "CHATKIT_DOMAIN_KEYS"},
		{"docs alone, key of another host", []string{"CHATKIT_WORKFLOW_ID=", "DOCS_INDEX=docs.index", "CHATKIT_DOMAIN_KEYS=example.com=k"}, "CHATKIT_DOMAIN_KEYS"},
		{"docs alone, local page", []string{"CHATKIT_WORKFLOW_ID=", "DOCS_INDEX=docs.index", "ALLOWED_ORIGINS=http://localhost:3000,https://*.a.example"}, ""},
		{"docs alone, local service", []string{"CHATKIT_WORKFLOW_ID=", "DOCS_INDEX=docs.index", "PUBLIC_URL=http://localhost:8787"}, ""},
		{"docs and a workflow, no domain key", []string{"DOCS_INDEX=docs.index"}, ""},
		{"vector store", docsAlone("VECTOR_STORE_ID=vs_1"), ""},
		{"index and vector store", docsAlone("DOCS_INDEX=docs.index", "VECTOR_STORE_ID=vs_1"), "DOCS_INDEX"},
		{"index at an https URL", docsAlone("DOCS_INDEX=https://docs.example.com/docent.index"), ""},
		{"index at a loopback URL", docsAlone("DOCS_INDEX=http://127.0.0.1:3000/docent.index"), ""},
		{"index at an http URL", docsAlone("DOCS_INDEX=http://docs.example.com/docent.index"), "DOCS_INDEX"},
		{"index at a URL with a password", docsAlone("DOCS_INDEX=https://u:p@docs.example.com/docent.index"), "DOCS_INDEX"},
		{"short reference to a vector store", docsAlone("VECTOR_STORE_ID=sm://vs"), "GOOGLE_CLOUD_PROJECT"},
		{"public URL", []string{"PUBLIC_URL=https://docent.example.com/"}, ""},
		{"public URL with a path", []string{"PUBLIC_URL=https://docent.example.com/api"}, "PUBLIC_URL"},
		{"public URL with a query", []string{"PUBLIC_URL=https://docent.example.com?x"}, "PUBLIC_URL"},
		{"public URL without a scheme", []string{"PUBLIC_URL=docent.example.com"}, "PUBLIC_URL"},
		{"no messages", []string{"RATE_LIMIT_MESSAGES_PER_MINUTE=0"}, ""},
		{"messages in words", []string{"RATE_LIMIT_MESSAGES_PER_MINUTE=many"}, "RATE_LIMIT_MESSAGES_PER_MINUTE"},
		{"any number of answers", []string{"ANSWERS_AT_ONCE=unlimited"}, ""},
		{"no answers of a day", []string{"ANSWERS_PER_DAY=0", "ANSWERS_PER_DAY_PER_ADDRESS=0"}, ""},
		{"any number of answers a day", []string{"ANSWERS_PER_DAY=unlimited", "ANSWERS_PER_DAY_PER_ADDRESS=unlimited"}, ""},
		{"fewer than no answers a day", []string{"ANSWERS_PER_DAY=-1"}, "ANSWERS_PER_DAY"},
		{"shortest answers", []string{"ANSWER_TIMEOUT=5s"}, ""},
		{"longest answers", []string{"ANSWER_TIMEOUT=100s"}, ""},
		{"answers too short", []string{"ANSWER_TIMEOUT=4s"}, "ANSWER_TIMEOUT"},
		{"an index that is asked for at once again", []string{"DOCS_INDEX_REFRESH=9s"}, "DOCS_INDEX_REFRESH"},
		{"a model's name with a space", []string{"ANSWER_MODEL=gpt 6"}, "ANSWER_MODEL"},
		{"a fine-tuned model", []string{"ANSWER_MODEL=ft:gpt-6-luna:org/1"}, ""},
		{"an effort in capitals", []string{"ANSWER_EFFORT=Low"}, "ANSWER_EFFORT"},
		{"fewest tokens", []string{"ANSWER_MAX_TOKENS=16"}, ""},
		{"too few tokens", []string{"ANSWER_MAX_TOKENS=15"}, "ANSWER_MAX_TOKENS"},
		{"too many tokens", []string{"ANSWER_MAX_TOKENS=32001"}, "ANSWER_MAX_TOKENS"},
		{"longest instructions", []string{"ASSISTANT_INSTRUCTIONS=" + strings.Repeat("ä", 8000)}, ""},
		{"instructions too long", []string{"ASSISTANT_INSTRUCTIONS=" + strings.Repeat("a", 8001)}, "ASSISTANT_INSTRUCTIONS"},
		{"instructions in a file", []string{"ASSISTANT_INSTRUCTIONS=@" + strings.Repeat("a", 9000)}, ""},
		{"short reference to instructions", []string{"ASSISTANT_INSTRUCTIONS=sm://instructions"}, "GOOGLE_CLOUD_PROJECT"},
		{"threads for an hour", []string{"THREADS_KEEP=1h"}, ""},
		{"no identity key, docs, Firestore", docsAlone("DOCS_INDEX=docs.index", "RATE_LIMIT_STORE=firestore", "GOOGLE_CLOUD_PROJECT=p"), "IDENTITY_KEY"},
		{"identity key, docs, Firestore", docsAlone("DOCS_INDEX=docs.index", "RATE_LIMIT_STORE=firestore", "GOOGLE_CLOUD_PROJECT=p", "IDENTITY_KEY="+long), ""},
		{"no identity key, docs, memory", docsAlone("DOCS_INDEX=docs.index"), ""},
		{"level in capitals", []string{"LOG_LEVEL=WARN"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Load(valid(tt.settings...))
			var faults config.Faults
			switch {
			case tt.bad == "" && err != nil:
				t.Error(err)
			case tt.bad != "" && (!errors.As(err, &faults) || len(faults) != 1 || faults[0].Variable != tt.bad):
				t.Errorf("%v, want one fault, of %s", err, tt.bad)
			}
		})
	}
}

func TestLoadSome(t *testing.T) {
	t.Parallel()
	variables := []string{"OPENAI_API_KEY", "OPENAI_BASE_URL"}
	environment := map[string]string{"OPENAI_API_KEY": key, "OPENAI_BASE_URL": "https://gateway.example.com/v1/", "PORT": "none", "LOG_LEVEL": "debug"}
	c, err := config.LoadSome(environment, variables...)
	if got, _ := c.APIKey.Literal(); err != nil || got != key || c.BaseURL != "https://gateway.example.com/v1" || c.LogLevel != slog.LevelInfo {
		t.Errorf("%v %+v", err, c)
	}
	_, err = config.LoadSome(map[string]string{"OPENAI_API_KEY": "a\nb", "OPENAI_BASE_URL": "gateway"}, variables...)
	var faults config.Faults
	if !errors.As(err, &faults) || len(faults) != 2 || faults[0].Variable != variables[0] || faults[1].Variable != variables[1] {
		t.Errorf("faults: %v", err)
	}
}

func TestConfig_MissingDomainKeys(t *testing.T) {
	t.Parallel()
	c := load(t, "DOCS_INDEX=docs.index", "CHATKIT_DOMAIN_KEYS=a.example=k",
		"ALLOWED_ORIGINS=https://b.example,http://b.example,https://a.example,https://*.c.example,http://localhost:3000")
	if diff := cmp.Diff([]string{"b.example"}, c.MissingDomainKeys()); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
}

// TestLoad_APIKeyInHeader refuses a key that no HTTP header can carry, and only that.
func TestLoad_APIKeyInHeader(t *testing.T) {
	t.Parallel()
	const fault = "the configuration is not right:\n  ALLOWED_ORIGINS must be set: the origins of your docs site, separated by commas, such as https://docs.example.com" +
		"\n  OPENAI_API_KEY must not have a %s in it, which no HTTP header can carry: set the key again without that"
	tests := []struct{ name, key, want string }{
		{"line break", key + "\nrest", fmt.Sprintf(fault, "line break")},
		{"line break at the begin", "\n" + key, fmt.Sprintf(fault, "line break")},
		{"carriage return", key + "\rrest", fmt.Sprintf(fault, "line break")},
		{"null byte", key + "\x00", fmt.Sprintf(fault, "control character")},
		{"escape", "\x1b[200~" + key, fmt.Sprintf(fault, "control character")},
		{"newline at the end", key + "\r\n", ""},
		{"tab", key + "\tx", ""},
		{"space", "Bearer " + key, ""},
		{"quotes", `"` + key + `"`, ""},
		{"not ASCII", key + "\u200b", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			settings := []string{"OPENAI_API_KEY=" + tt.key, "CHATKIT_WORKFLOW_ID=two\nlines", "IDENTITY_KEY=" + strings.Repeat("\x00\n", 16) + "."}
			got := ""
			if tt.want != "" {
				settings = append(settings, "ALLOWED_ORIGINS=") // All faults are listed.
			}
			if _, err := config.Load(valid(settings...)); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfig_PrintsNoSecret(t *testing.T) {
	t.Parallel()
	identity := strings.Repeat("identity", 4)
	c := load(t, "IDENTITY_KEY="+identity)
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("", "config", c)
	for _, s := range []string{fmt.Sprintf("%v %+v %#v", c, c, c), log.String()} {
		if strings.Contains(s, key) || strings.Contains(s, identity) {
			t.Errorf("a secret shows in %s", s)
		}
	}
}

// row matches the beginning of a row of the table of variables: variable and
// default.
var row = regexp.MustCompile("(?m)^\\| `([A-Z0-9_]+)` \\| ([^|]*) \\|")

func TestDocsListEveryVariable(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		documented[m[1]] = m[2]
	}
	for field := range reflect.TypeFor[config.Config]().Fields() {
		name := field.Tag.Get("env")
		if name == "-" {
			continue
		}
		def, ok := documented[name]
		if !ok {
			t.Errorf("docs/configuration.md does not list %s", name)
		}
		if d := field.Tag.Get("envDefault"); d != "" && def != "`"+d+"`" {
			t.Errorf("docs/configuration.md says that %s is %s by default, the code says `%s`", name, def, d)
		}
		delete(documented, name)
	}
	for name := range maps.Keys(documented) {
		t.Errorf("docs/configuration.md lists %s, which nothing reads", name)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("PORT", "8787")
	f.Add("TRUSTED_PROXIES", "10.0.0.0/8,::/0")
	f.Add("ALLOWED_ORIGINS", "https://*.a.example")
	f.Add("=", "PORT")
	f.Add("PORT=99999", "")
	f.Fuzz(func(t *testing.T, name, value string) {
		if strings.ContainsAny(name, "=\x00") {
			t.Skip("no environment has such a name")
		}
		environment := valid()
		environment[name] = value
		_, err := config.Load(environment)
		var faults config.Faults
		if err != nil && !errors.As(err, &faults) {
			t.Errorf("%s=%q: %v is not a list of faults", name, value, err)
		}
		for _, fault := range faults {
			if fault.Variable != name && fault.Variable != "GOOGLE_CLOUD_PROJECT" && fault.Variable != "IDENTITY_KEY" &&
				fault.Variable != "CHATKIT_WORKFLOW_ID" && fault.Variable != "CHATKIT_DOMAIN_KEYS" {
				t.Errorf("%s=%q is blamed on %s", name, value, fault.Variable)
			}
		}
	})
}
