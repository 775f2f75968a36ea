package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/firestore"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	passages "docent/internal/docs"
	"docent/internal/openai"
	"docent/internal/standin"
	"docent/internal/testkit/testfirestore"
	"docent/internal/testkit/testindex"
)

var update = flag.Bool("update", false, "write the golden files again")

// world has all dependencies of a check. They work unless a test breaks them.
type world struct {
	t       *testing.T
	openai  *standin.OpenAI
	secrets *standin.SecretManager
	project string
	address string // The stand-in OpenAI's.
	env     []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, openai: standin.NewOpenAI(testKey, testWorkflow), project: testfirestore.Project()}
	base, stop, err := w.openai.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop() })
	w.address = strings.TrimSuffix(base, "/v1")
	w.secrets, w.env = manager(t)
	w.set("OPENAI_BASE_URL="+base, "ALLOWED_ORIGINS="+testOrigin, "TRUSTED_PROXIES=127.0.0.0/8", "RATE_LIMIT_STORE=memory")
	return w
}

// set sets variables. If one is set several times, the last value counts.
func (w *world) set(environment ...string) { w.env = append(w.env, environment...) }

// firestore makes the check use the emulator.
func (w *world) firestore() {
	w.set("RATE_LIMIT_STORE=firestore", "FIRESTORE_EMULATOR_HOST="+testfirestore.Address(w.t), "GOOGLE_CLOUD_PROJECT="+w.project,
		"OPENAI_API_KEY=sm://test-project/openai-api-key", "IDENTITY_KEY=sm://test-project/identity-key#1")
}

// key stores another API key.
func (w *world) key(secret string) { w.secrets.Add("test-project/openai-api-key", secret) }

// metadata starts a metadata server that gives every request the same answer.
func (w *world) metadata(status int, answer string) {
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Metadata-Flavor", "Google")
		rw.WriteHeader(status)
		rw.Write([]byte(answer))
	}))
	w.t.Cleanup(srv.Close)
	w.set("GCE_METADATA_HOST="+strings.TrimPrefix(srv.URL, "http://"), "GOOGLE_CLOUD_PROJECT=")
}

// secretText is a text that no report may hold.
const secretText = "Orchards are pruned in winter by the gardener."

// docs makes Docent answer from an index at a URL, with instructions of the site's own.
func (w *world) docs() {
	s := testindex.Small()
	s.Pages[0].Sections[0].Text = secretText
	plan := passages.Plan(s, "text-embedding-3-small", 512)
	client := openai.New(openai.Options{BaseURL: w.address + "/v1", APIKey: fixed(testKey), Now: time.Now})
	defer client.Close()
	if err := plan.Run(w.t.Context(), client, func(int, int) {}, func() error { return nil }); err != nil {
		w.t.Fatal(err)
	}
	srv := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(testindex.Write(w.t, s)))))
	w.t.Cleanup(srv.Close)
	w.secrets.Add("test-project/instructions", secretText)
	w.set("CHATKIT_WORKFLOW_ID=", "DOCS_INDEX="+srv.URL+"/docs.index", "CHATKIT_DOMAIN_KEYS=docs.example.com=domain_pk_1",
		"PUBLIC_URL=https://docent.example.com", "ASSISTANT_INSTRUCTIONS=sm://test-project/instructions")
}

// fixed is a key that does not change.
type fixed string

func (f fixed) Get() string { return string(f) }

func (f fixed) Renew(context.Context, string) (string, bool) { return string(f), false }

// command returns the command that runs docent.
func (w *world) command(args ...string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	cmd = exec.CommandContext(context.Background(), binary, args...)
	cmd.Env = append(w.env, "GORACE=atexit_sleep_ms=0")
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

// check runs the check and returns its output. It must end in time, with the
// status, and without a secret in the output.
func (w *world) check(wantStatus int, args ...string) string {
	w.t.Helper()
	cmd, stdout, stderr := w.command(append([]string{"check"}, args...)...)
	began := time.Now()
	err := cmd.Run()
	if took := time.Since(began); took > 30*time.Second {
		w.t.Errorf("the check took %s", took)
	}
	if got := exitStatus(w.t, err); got != wantStatus || stderr.Len() > 0 {
		w.t.Errorf("exit status %d, want %d, and nothing in stderr: %s", got, wantStatus, stderr)
	}
	noSecrets(w.t, stdout.String())
	return stdout.String()
}

func exitStatus(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	default:
		t.Fatal(err)
		return 0
	}
}

// noSecrets searches for secrets, and for every part of one with 16 bytes, in
// upper or lower case.
func noSecrets(t *testing.T, output string) {
	t.Helper()
	const part = 16
	lower := strings.ToLower(output)
	for _, s := range []string{testKey, newKey, testIdentity, testWorkflow, otherWorkflow, testToken, "gateway-***", "ek_", secretText, testStore} {
		for i := 0; i+part <= len(s) || i == 0; i++ {
			if piece := s[i:min(i+part, len(s))]; strings.Contains(lower, strings.ToLower(piece)) {
				t.Errorf("the output has %q of a secret:\n%s", piece, output)
			}
		}
	}
}

// deadFirestore starts a Firestore that answers every call with the error, or never
// if that is nil. It returns the address for FIRESTORE_EMULATOR_HOST.
func deadFirestore(t *testing.T, fault error) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if fault == nil {
			<-stream.Context().Done()
			return status.FromContextError(stream.Context().Err()).Err()
		}
		return fault
	}))
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	return l.Addr().String()
}

// changing matches the parts that differ from run to run.
var changing = []struct {
	pattern *regexp.Regexp
	stable  string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`test-[a-z0-9]{20}`), "PROJECT"},
	{regexp.MustCompile(`\b\d+ ms\b`), "N ms"},
	{regexp.MustCompile(`no answer in \d+s`), "no answer in Ns"},
	{regexp.MustCompile(`DeadlineExceeded: [a-zA-Z_: ]+`), "DeadlineExceeded: …"}, // Client or server, whichever notices first.
	{regexp.MustCompile(`req_[a-z0-9]{26}`), "req_RANDOM"},
	{regexp.MustCompile(`"version":"[^"]*"`), `"version":"VERSION"`},
}

// golden compares an output with the file of that name.
func golden(t *testing.T, name, output string) {
	t.Helper()
	for _, c := range changing {
		output = c.pattern.ReplaceAllString(output, c.stable)
	}
	path := filepath.Join("testdata", "check", strings.ReplaceAll(name, " ", "-")+".golden")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(output), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), output); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// testStore is a vector store.
const testStore = "vs_0123456789abcdef0123456789abcdef"

// otherWorkflow is one that OpenAI does not know.
const otherWorkflow = "wf_0000000000000000other0000000000000000"

// says answers with an error in OpenAI's form.
func says(status int, code, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Request-Id", "req_"+strings.Repeat("a", 26))
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": message, "type": "invalid_request_error", "param": nil, "code": code}})
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	denied := status.Error(codes.PermissionDenied, "Missing or insufficient permissions.")
	tests := []struct {
		name   string
		status int
		spoil  func(w *world)
	}{
		{"healthy", 0, func(w *world) { w.firestore() }},
		{"healthy, literals and memory", 0, func(w *world) {
			w.set("OPENAI_API_KEY="+testKey, "CHATKIT_WORKFLOW_ID="+testWorkflow, "IDENTITY_KEY=", "GOOGLE_CLOUD_PROJECT=", "TRUSTED_PROXIES=")
		}},
		{"healthy job", 0, func(w *world) {
			w.firestore()
			w.set("CLOUD_RUN_JOB=docent-check", "LOG_FORMAT=json", "TRUSTED_PROXIES=cloud-run,firebase-hosting", "ALLOWED_ORIGINS=https://docs.example.com,http://localhost:*")
		}},
		{"healthy job, project by metadata", 0, func(w *world) {
			w.metadata(200, "test-project")
			w.set("CLOUD_RUN_JOB=docent-check", "TRUSTED_PROXIES=", "CHATKIT_WORKFLOW_VERSION=3")
		}},
		{"no metadata server", 1, func(w *world) {
			w.metadata(404, "")
			w.set("CLOUD_RUN_JOB=docent-check", "TRUSTED_PROXIES=cloud-run")
		}},
		{"no metadata server, and no need for one", 0, func(w *world) {
			w.metadata(404, "")
			w.set("CLOUD_RUN_JOB=docent-check", "OPENAI_API_KEY="+testKey, "CHATKIT_WORKFLOW_ID="+testWorkflow, "IDENTITY_KEY="+testIdentity)
			w.set("TRUSTED_PROXIES=cloud-run")
		}},
		{"bad configuration", 1, func(w *world) {
			w.set("PORT="+testKey, "ALLOWED_ORIGINS=https://*.com,https://docs.example.com/", "OPENAI_API_KEY=", "IDENTITY_KEY=short")
		}},

		{"no such secret", 1, func(w *world) { w.set("CHATKIT_WORKFLOW_ID=sm://nowhere") }},
		{"secret denied", 1, func(w *world) { w.secrets.Deny("test-project/openai-api-key") }},
		{"secret disabled", 1, func(w *world) { w.secrets.Disable("test-project/openai-api-key", 1) }},
		{"secret damaged", 1, func(w *world) { w.secrets.Corrupt("test-project/identity-key", true) }},
		{"secret empty", 1, func(w *world) { w.key("\n") }},
		{"all secrets bad at once", 1, func(w *world) {
			w.key("line\nbreak")
			w.set("CHATKIT_WORKFLOW_ID=sm://nowhere", "IDENTITY_KEY=sm://short#1")
			w.secrets.Add("test-project/short", "short")
		}},
		{"key with a line break", 1, func(w *world) { w.key(testKey + "\n" + newKey) }},
		{"key with a space", 1, func(w *world) { w.key("Bearer " + testKey) }},
		{"key in quotes", 1, func(w *world) { w.key(`"` + testKey + `"`) }},
		{"key not ASCII", 1, func(w *world) { w.key(testKey + "\u200b") }},
		{"key and workflow swapped", 1, func(w *world) {
			w.set("OPENAI_API_KEY=sm://test-project/chatkit-workflow-id", "CHATKIT_WORKFLOW_ID=sm://openai-api-key#1")
		}},
		{"key of a gateway", 0, func(w *world) {
			w.key("gateway-key")
			w.openai.SetKey("gateway-key")
		}},
		{"Secret Manager down", 1, func(w *world) { w.set("SECRET_MANAGER_EMULATOR_HOST=" + nowhere) }},

		{"Firestore down", 1, func(w *world) {
			w.firestore()
			w.set("FIRESTORE_EMULATOR_HOST=" + nowhere)
		}},
		{"Firestore without permission", 1, func(w *world) {
			w.set("RATE_LIMIT_STORE=firestore", "FIRESTORE_EMULATOR_HOST="+deadFirestore(w.t, denied))
		}},
		{"Firestore without database", 1, func(w *world) {
			w.set("RATE_LIMIT_STORE=firestore", "FIRESTORE_DATABASE=docs", "FIRESTORE_EMULATOR_HOST="+
				deadFirestore(w.t, status.Error(codes.NotFound, "The database docs does not exist.")))
		}},

		{"OpenAI 401", 1, func(w *world) { w.openai.SetKey(newKey) }},
		{"a gateway's 401", 1, func(w *world) { w.key("gateway-key-of-somebody") }}, // The answer quotes a part of the key.
		{"OpenAI 403", 1, func(w *world) {
			w.openai.Fail(says(403, "unsupported_country_region_territory", "Country, region, or territory\nnot supported."))
		}},
		{"OpenAI 404", 1, func(w *world) { w.secrets.Add("test-project/chatkit-workflow-id", otherWorkflow) }},
		{"OpenAI 400", 1, func(w *world) { w.openai.Fail(says(400, "invalid_value", "Invalid value for 'workflow.version'.")) }},
		{"OpenAI 429", 1, func(w *world) {
			quota := says(429, "insufficient_quota", "You exceeded your current quota.")
			w.openai.Fail(quota, quota, quota)
		}},
		{"OpenAI 500", 1, func(w *world) {
			w.openai.Fail(answers(500, "<html>"), answers(500, "<html>"), answers(500, "<html>"))
		}},
		{"OpenAI echoes credentials", 1, func(w *world) {
			w.openai.Fail(says(400, "x", testKey+" "+testKey[:12]+"***"+testKey[len(testKey)-16:]+" "+testWorkflow+" ek_x"))
		}},
		{"not OpenAI", 1, func(w *world) { w.openai.Fail(answers(200, "<html>")) }},
		{"OpenAI redirects", 1, func(w *world) {
			w.openai.Fail(func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Location", "http://"+nowhere)
				rw.WriteHeader(302)
			})
		}},
		{"OpenAI unreachable", 1, func(w *world) { w.set("OPENAI_BASE_URL=http://" + nowhere + "/v1") }},
		{"token in the base URL, unreachable", 1, func(w *world) { w.set("OPENAI_BASE_URL=http://" + nowhere + "/" + testToken + "/v1") }},
		{"token in the base URL, unknown", 1, func(w *world) { w.set("OPENAI_BASE_URL=" + w.address + "/" + testToken + "/v1") }},
		{"token in the base URL, not HTTP", 1, func(w *world) {
			w.set("OPENAI_BASE_URL=" + w.address + "/" + testToken + "/v1")
			broken := cut("HTTP/1.1 " + testToken + " " + testKey + "\r\n\r\n")
			w.openai.Fail(broken, broken, broken)
		}},
		{"OpenAI does not answer", 1, func(w *world) {
			w.set("REQUEST_TIMEOUT=1s")
			w.openai.Fail(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		}},
		{"no cancel", 0, func(w *world) { w.openai.Fail(mints(`"id":"cksess_1",`), answers(405, "{}")) }},
		{"cancel unanswered", 0, func(w *world) { w.openai.Fail(mints(`"id":"cksess_1",`), cut("")) }},
		{"session without ID", 0, func(w *world) { w.openai.Fail(mints("")) }},

		{"docs healthy", 0, func(w *world) {
			w.firestore()
			w.docs()
		}},
		{"docs healthy job, vector store", 0, func(w *world) {
			w.firestore()
			w.docs()
			w.openai.SetVectorStore(testStore, standin.File{Name: "a.md", Text: "The documentation."})
			w.secrets.Add("test-project/vector-store-id", testStore)
			w.set("CLOUD_RUN_JOB=docent-check", "TRUSTED_PROXIES=cloud-run,firebase-hosting", "PUBLIC_URL=",
				"DOCS_INDEX=", "VECTOR_STORE_ID=sm://test-project/vector-store-id")
		}},
		{"docs after the workflow", 0, func(w *world) {
			w.docs()
			w.set("CHATKIT_WORKFLOW_ID="+otherWorkflow, "ALLOWED_ORIGINS=https://docs.example.com,https://docs--*.web.app")
		}},
		{"docs without a domain key", 1, func(w *world) {
			w.docs()
			w.set("CHATKIT_WORKFLOW_ID="+testWorkflow, "CHATKIT_DOMAIN_KEYS=")
		}},
		{"docs, wrong everywhere", 1, func(w *world) {
			w.firestore()
			w.docs()
			w.set("DOCS_INDEX=http://"+nowhere+"/docs.index", "ANSWER_MODEL=gpt-0", "ASSISTANT_INSTRUCTIONS=sm://nowhere")
		}},
		{"docs, vector store unknown", 1, func(w *world) {
			w.docs()
			w.set("DOCS_INDEX=", "VECTOR_STORE_ID="+testStore)
		}},
		{"docs, no credit", 1, func(w *world) {
			w.docs()
			w.openai.Play("insufficient-quota")
		}},
		{"docs, OpenAI 401", 1, func(w *world) {
			w.docs()
			w.openai.SetKey(newKey)
		}},
		{"docs, bad configuration", 1, func(w *world) {
			w.docs()
			w.set("CHATKIT_DOMAIN_KEYS=", "VECTOR_STORE_ID="+testStore)
		}},

		{"origins and proxies", 1, func(w *world) {
			w.set("CLOUD_RUN_JOB=docent-check", "TRUSTED_PROXIES=0.0.0.0/1,128.0.0.0/1,10.0.0.0/8",
				"ALLOWED_ORIGINS=http://docs.example.com,https://*--docs.web.app,https://docs--*.web.app,https://docs.example.con")
			w.set("TRUSTED_PROXIES=64.0.0.0/2,10.0.0.0/8")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tt.spoil(w)
			golden(t, strings.NewReplacer(",", "", "'", "").Replace(tt.name), w.check(tt.status))
			if n := w.openai.Active(); n != 0 {
				t.Errorf("%d sessions are still active", n)
			}
		})
	}
}

// mints answers with a session. id is the JSON field for its ID, or empty.
func mints(id string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{%s"client_secret":"ek_x","expires_at":%d}`, id, time.Now().Add(10*time.Minute).Unix())
	}
}

func TestCheck_JSON(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{"machine healthy": 0, "machine failing": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.firestore()
			if want == 1 {
				w.openai.SetKey(newKey)
			}
			output := w.check(want, "--json")
			var report struct {
				OK     bool
				Checks []struct{ Name, Status, Detail string }
			}
			if err := json.Unmarshal([]byte(output), &report); err != nil || strings.Count(output, "\n") != 1 || report.OK != (want == 0) || len(report.Checks) != 10 {
				t.Errorf("not one line of JSON with ten checks (%v):\n%s", err, output)
			}
			golden(t, name, output)
		})
	}
}

func TestCheck_LeavesNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.firestore()
	w.docs()
	w.set("CHATKIT_WORKFLOW_ID=sm://test-project/chatkit-workflow-id")
	w.check(0)
	if asked := w.openai.Asked(); len(asked) != 1 || asked[0].User != "docent-check" || w.openai.Active() != 0 {
		t.Errorf("sessions asked for: %+v, %d still active, want one of docent-check, cancelled", asked, w.openai.Active())
	}
	conn, err := grpc.NewClient("passthrough:///"+testfirestore.Address(t), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	store, err := firestore.NewClient(t.Context(), w.project, option.WithGRPCConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if threads, err := store.CollectionGroup("threads").Documents(t.Context()).GetAll(); err != nil || len(threads) != 0 {
		t.Errorf("%d conversations were left behind (%v)", len(threads), err)
	}
	documents, err := store.Collection("rate_limits").Documents(t.Context()).GetAll()
	if err != nil || len(documents) != 1 {
		t.Fatalf("%d documents were left behind, want one (%v)", len(documents), err)
	}
	data := documents[0].Data()
	expires, _ := data["expires_at"].(time.Time)
	if left := time.Until(expires); data["count"] != int64(2) || left < 0 || left > 2*time.Hour {
		t.Errorf("left behind: %v, want a count of 2 that expires soon", data)
	}
}

func TestCheck_EverythingHangs(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"everything hangs", "docs everything hangs"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			t.Cleanup(w.secrets.Hold())
			w.set("RATE_LIMIT_STORE=firestore", "FIRESTORE_EMULATOR_HOST="+deadFirestore(t, nil))
			if strings.HasPrefix(name, "docs") {
				w.docs()
				srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
				t.Cleanup(srv.Close)
				w.set("DOCS_INDEX=" + srv.URL)
			}
			golden(t, name, w.check(1))
		})
	}
}

func TestCheck_Interrupted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	t.Cleanup(w.secrets.Hold())
	cmd, stdout, stderr := w.command("check")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := w.secrets.AwaitCalls(t.Context(), "test-project/openai-api-key", 1); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	cmd.Process.Signal(syscall.SIGTERM)
	got := exitStatus(t, cmd.Wait())
	if took := time.Since(began); got != 1 || took > 5*time.Second {
		t.Errorf("exit status %d after %s, want 1 at once\n%s%s", got, took, stdout, stderr)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	stamped := filepath.Join(t.TempDir(), "docent")
	build := exec.CommandContext(t.Context(), "go", "build", "-race", "-ldflags", "-X main.version=v1.2.3 -X main.revision=4bf92f3", "-o", stamped, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for path, want := range map[string]string{
		stamped: `^docent v1\.2\.3, revision 4bf92f3, go1\.\S+\n$`,
		binary:  `^docent \S+, revision \S+, go1\.\S+\n$`,
	} {
		out, err := exec.CommandContext(t.Context(), path, "version").Output()
		if err != nil || !regexp.MustCompile(want).Match(out) {
			t.Errorf("%q (%v), want %s", out, err, want)
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	const all, check = "usage: docent                       serve", "usage: docent check            print"
	tests := []struct {
		args   string
		status int
		want   string // How the text begins: on standard output for status 0, else on standard error.
	}{
		{"--help", 0, all},
		{"-h", 0, all},
		{"help", 0, all},
		{"check --help", 0, check},
		{"check -h", 0, check},
		{"help check", 0, check},
		{"index --help", 0, "usage: docent index [options] DIR"},
		{"index -h", 0, "usage: docent index [options] DIR"},
		{"help index", 0, "usage: docent index [options] DIR"},
		{"help search", 0, "usage: docent search [options] QUESTION"},
		{"help ask", 0, "usage: docent ask [options] QUESTION"},
		{"help eval", 0, "usage: docent eval [options] FILE"},
		{"help threads", 0, "usage: docent threads [options]"},
		{"serve", 2, all},
		{"--json", 2, all},
		{"help more", 2, all},
		{"--help check", 2, all},
		{"version --json", 2, all},
		{"check --yaml", 2, check},
		{"check --json more", 2, check},
		{"search", 2, "usage: docent search"},
		{"ask", 2, "usage: docent ask"},
		{"eval", 2, "usage: docent eval"},
		{"threads all", 2, "usage: docent threads"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, binary, strings.Fields(tt.args)...)
			cmd.Env = []string{"GORACE=atexit_sleep_ms=0"} // Help needs no configuration.
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			status := exitStatus(t, cmd.Run())
			text, other := &stdout, &stderr
			if tt.status != 0 {
				text, other = other, text
			}
			if status != tt.status || !strings.HasPrefix(text.String(), tt.want) || other.Len() > 0 {
				t.Errorf("exit status %d, stdout %q, stderr %q, want %d and only %q…", status, &stdout, &stderr, tt.status, tt.want)
			}
		})
	}
}
