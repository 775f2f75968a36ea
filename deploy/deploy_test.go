// Package deploy_test checks the deployment: that Google Cloud's APIs and Docent's
// configuration accept the files, that these agree with each other, and that the
// image's build produces a binary that serves.
package deploy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"docent/internal/address"
	"docent/internal/config"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"google.golang.org/api/cloudbuild/v1"
	"google.golang.org/api/logging/v2"
	dashboard "google.golang.org/api/monitoring/v1"
	"google.golang.org/api/monitoring/v3"
	"google.golang.org/api/run/v1"
)

// decode reads YAML or JSON into an API type by the type's JSON names. It refuses
// every field that the type does not have.
func decode(data []byte, into any) error {
	var document any
	if err := yaml.Unmarshal(data, &document); err != nil {
		return err
	}
	wanted, err := json.Marshal(document)
	if err != nil {
		return err
	}
	strict := json.NewDecoder(bytes.NewReader(wanted))
	strict.DisallowUnknownFields()
	if err := strict.Decode(into); err != nil {
		return err
	}
	// Types with a float have an UnmarshalJSON of their own, which is not strict. So
	// encode the result again and check that nothing is missing.
	understood, err := json.Marshal(into)
	if err != nil {
		return err
	}
	var was, is any
	return errors.Join(json.Unmarshal(wanted, &was), json.Unmarshal(understood, &is), missing("", was, is))
}

// missing returns an error for each value of a that b does not have. The API types
// omit zeros.
func missing(path string, a, b any) error {
	switch a := a.(type) {
	case map[string]any:
		b, _ := b.(map[string]any)
		var faults []error
		for _, key := range slices.Sorted(maps.Keys(a)) {
			faults = append(faults, missing(path+"."+key, a[key], b[key]))
		}
		return errors.Join(faults...)
	case []any:
		b, _ := b.([]any)
		if len(a) != len(b) {
			return fmt.Errorf("%s: %d of %d elements were decoded", path, len(b), len(a))
		}
		var faults []error
		for i := range a {
			faults = append(faults, missing(fmt.Sprintf("%s[%d]", path, i), a[i], b[i]))
		}
		return errors.Join(faults...)
	}
	if a != b && a != nil && !reflect.ValueOf(a).IsZero() {
		return fmt.Errorf("%s: %v was decoded as %v", path, a, b)
	}
	return nil
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// load reads a file into an API type. It refuses unknown fields.
func load[T any](t *testing.T, path string) *T {
	t.Helper()
	into := new(T)
	if err := decode([]byte(read(t, path)), into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return into
}

// files returns the files that match a pattern. There must be at least one.
func files(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %v %v", pattern, found, err)
	}
	return found
}

func TestDecode_UnknownField(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		into       any
		ok         bool
	}{
		{"service", "spec: {template: {spec: {timeoutSeconds: 20}}}", &run.Service{}, true},
		{"service, misspelt", "spec: {template: {spec: {timeoutSecond: 20}}}", &run.Service{}, false},
		{"service, wrong type", "spec: {template: {spec: {timeoutSeconds: soon}}}", &run.Service{}, false},
		{"duplicate key", "spec: {}\nspec: {}", &run.Service{}, false},
		{"threshold", "conditions: [{conditionThreshold: {thresholdValue: 1, duration: 0s}}]", &monitoring.AlertPolicy{}, true},
		{"threshold, misspelt next to a float", "conditions: [{conditionThreshold: {thresholdValue: 1, durations: 0s}}]", &monitoring.AlertPolicy{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if err := decode([]byte(tt.text), tt.into); (err == nil) != tt.ok {
				t.Errorf("%v", err)
			}
		})
	}
}

// environment returns the variables of service.yaml for a project.
func environment(t *testing.T) map[string]string {
	t.Helper()
	variables := map[string]string{}
	for _, v := range load[run.Service](t, "../service.yaml").Spec.Template.Spec.Containers[0].Env {
		if _, twice := variables[v.Name]; twice || v.Value == "" {
			t.Errorf("service.yaml has %s twice, or without a value", v.Name)
		}
		variables[v.Name] = strings.ReplaceAll(v.Value, "PROJECT_ID", "my-docs-project")
	}
	return variables
}

// configuration returns Docent's configuration from service.yaml.
func configuration(t *testing.T) config.Config {
	t.Helper()
	variables := environment(t)
	variables["K_SERVICE"], variables["PORT"] = "docent", "8080"
	c, err := config.Load(variables)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestService_Environment(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"GOMEMLIMIT": true} // Read by the Go runtime.
	for field := range reflect.TypeFor[config.Config]().Fields() {
		known[field.Tag.Get("env")] = true
	}
	for name := range environment(t) {
		if !known[name] {
			t.Errorf("service.yaml sets %s, which nothing reads", name)
		}
	}
	c := configuration(t)
	if c.Project != "my-docs-project" {
		t.Errorf("project %q", c.Project)
	}
	for _, origin := range []string{"https://taquito.io", "https://taquito-584.pages.dev", "https://4f2a.taquito-584.pages.dev"} {
		if !c.AllowedOrigins.Allows(origin) {
			t.Errorf("%s is not allowed", origin)
		}
	}
	if diff := cmp.Diff(fmt.Sprint(append(address.CloudRun(), address.FirebaseHosting()...)), fmt.Sprint(c.TrustedProxies)); diff != "" {
		t.Errorf("trusted proxies (-want +got):\n%s", diff)
	}
}

func TestService_Secrets(t *testing.T) {
	t.Parallel()
	commands := read(t, "testdata/setup.golden")
	references := 0
	for variable, value := range environment(t) {
		reference, ok := strings.CutPrefix(value, "sm://")
		if !ok {
			continue
		}
		references++
		name, _, pinned := strings.Cut(reference, "#")
		for _, command := range []string{"gcloud secrets create " + name + " ", "gcloud secrets versions add " + name + " ", "gcloud secrets add-iam-policy-binding " + name + " "} {
			if !strings.Contains(commands, command) {
				t.Errorf("%s refers to %s, but setup.sh does not %q", variable, name, command)
			}
		}
		if pinned != (variable == "IDENTITY_KEY") {
			t.Errorf("%s is %s: the identity key must be pinned, the others must rotate", variable, value)
		}
	}
	if references != 3 {
		t.Errorf("%d secrets, want 3", references)
	}
}

func TestEnvFile(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "./env.sh", "my-docs-project")
	cmd.Stdin = strings.NewReader(read(t, "../service.yaml"))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := yaml.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(environment(t), got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

// mebibytes parses sizes such as 256Mi and 200MiB.
func mebibytes(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimRight(s, "MiB"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestService(t *testing.T) {
	t.Parallel()
	s := load[run.Service](t, "../service.yaml")
	revision := s.Spec.Template
	container := revision.Spec.Containers[0]
	c := configuration(t)

	if diff := cmp.Diff(map[string]string{"run.googleapis.com/ingress": "all", "run.googleapis.com/invoker-iam-disabled": "true"}, s.Metadata.Annotations); diff != "" {
		t.Errorf("service annotations (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{
		"run.googleapis.com/execution-environment": "gen1",
		"run.googleapis.com/startup-cpu-boost":     "true",
		"autoscaling.knative.dev/minScale":         "0",
		"autoscaling.knative.dev/maxScale":         "4",
	}, revision.Metadata.Annotations); diff != "" {
		t.Errorf("revision annotations (-want +got):\n%s", diff)
	}
	if want := "docent-run@PROJECT_ID.iam.gserviceaccount.com"; revision.Spec.ServiceAccountName != want {
		t.Errorf("service account %q, want %q", revision.Spec.ServiceAccountName, want)
	}
	// Docent's deadlines (10 s for the header, then the answer's budget) must end
	// before Cloud Run's timeout. Sessions, which come through Firebase Hosting, must
	// end before its minute.
	session, longest := 10*time.Second+c.RequestTimeout, 10*time.Second+config.MaxAnswerTimeout
	if clouds := time.Duration(revision.Spec.TimeoutSeconds) * time.Second; session >= time.Minute || longest >= clouds {
		t.Errorf("a session takes up to %s, Firebase Hosting waits 1m0s; an answer takes up to %s, Cloud Run waits %s", session, longest, clouds)
	}
	if port := revision.Spec.Containers[0].Ports[0].Name; port != "h2c" {
		t.Errorf("the port's name is %q, so Cloud Run does not speak HTTP/2 to the container", port)
	}
	atOnce, _ := reflect.TypeFor[config.Config]().FieldByName("AnswersAtOnce")
	if n, err := strconv.ParseInt(atOnce.Tag.Get("envDefault"), 10, 64); err != nil || revision.Spec.ContainerConcurrency > n {
		t.Errorf("concurrency is %d, above the default of ANSWERS_AT_ONCE, %d", revision.Spec.ContainerConcurrency, n)
	}
	if m := regexp.MustCompile(`idleConns = (\d+)`).FindStringSubmatch(read(t, "../internal/openai/openai.go")); m == nil || m[1] != fmt.Sprint(revision.Spec.ContainerConcurrency) {
		t.Errorf("concurrency is %d, idle connections to OpenAI are %v", revision.Spec.ContainerConcurrency, m)
	}
	memory, limit := mebibytes(t, container.Resources.Limits["memory"]), mebibytes(t, environment(t)["GOMEMLIMIT"])
	if needed := 60 + 2*22; limit <= needed || memory-limit < 32 {
		t.Errorf("memory %d MiB, Go's limit %d MiB: want Go's limit over the %d MiB that are needed, and at least 32 MiB above it", memory, limit, needed)
	}
	if container.Resources.Limits["cpu"] != "1" {
		t.Errorf("cpu %q: with less than one, an instance gets one request at a time", container.Resources.Limits["cpu"])
	}
	port := container.Ports[0].ContainerPort
	if diff := cmp.Diff(&run.Probe{TcpSocket: &run.TCPSocketAction{Port: port}, TimeoutSeconds: 240, PeriodSeconds: 240, FailureThreshold: 1}, container.StartupProbe); diff != "" {
		t.Errorf("startup probe (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(&run.HTTPGetAction{Path: "/health", Port: port}, container.LivenessProbe.HttpGet); diff != "" {
		t.Errorf("liveness probe (-want +got):\n%s", diff)
	}
}

func TestBuild(t *testing.T) {
	t.Parallel()
	b := load[cloudbuild.Build](t, "../cloudbuild.yaml")
	steps := map[string]*cloudbuild.BuildStep{}
	var order []string
	for _, step := range b.Steps {
		order = append(order, step.Id)
		steps[step.Id] = step
	}
	if diff := cmp.Diff([]string{"test", "build", "push", "check", "deploy", "smoke", "traffic"}, order); diff != "" {
		t.Fatalf("steps (-want +got):\n%s", diff)
	}
	if b.Options.Logging != "CLOUD_LOGGING_ONLY" || !strings.Contains(b.ServiceAccount, "/docent-build@") {
		t.Errorf("logging %q, account %q", b.Options.Logging, b.ServiceAccount)
	}
	for id, flag := range map[string]string{"deploy": "--no-traffic", "check": "--wait", "traffic": "--to-revisions="} {
		if !strings.Contains(steps[id].Script, flag) {
			t.Errorf("step %s does not use %s", id, flag)
		}
	}
	text := read(t, "../cloudbuild.yaml")
	for _, right := range []string{"invoker", "iam", "services replace", "secrets"} {
		for _, step := range b.Steps {
			if strings.Contains(step.Script, right) {
				t.Errorf("step %s mentions %s, which takes more rights than deploying revisions", step.Id, right)
			}
		}
	}
	for _, name := range regexp.MustCompile(`\$\{?(_[A-Z]+)`).FindAllStringSubmatch(text, -1) {
		if _, ok := b.Substitutions[name[1]]; !ok {
			t.Errorf("%s is used, but is not a substitution", name[1])
		}
	}
	if c := configuration(t); !c.AllowedOrigins.Allows(b.Substitutions["_ORIGIN"]) {
		t.Errorf("the smoke request's origin %s is not allowed", b.Substitutions["_ORIGIN"])
	}
	if name := load[run.Service](t, "../service.yaml").Metadata.Name; b.Substitutions["_SERVICE"] != name {
		t.Errorf("the service is %s in service.yaml, %s in cloudbuild.yaml", name, b.Substitutions["_SERVICE"])
	}
	first := load[cloudbuild.Build](t, "image.yaml")
	if diff := cmp.Diff([]*cloudbuild.BuildStep{steps["build"]}, first.Steps); diff != "" {
		t.Errorf("the first image is built differently (-cloudbuild.yaml +image.yaml):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"${_IMAGE}"}, first.Images); diff != "" {
		t.Errorf("the first image is not pushed (-want +got):\n%s", diff)
	}
}

// metric matches a Docent metric in a filter, outcomes the list of outcomes that a
// filter counts.
var (
	metric   = regexp.MustCompile(`logging\.googleapis\.com/user/(\w+)`)
	outcomes = regexp.MustCompile(`metric\.labels\.outcome = one_of\(([^)]*)\)`)
)

func TestMonitoring_Metrics(t *testing.T) {
	t.Parallel()
	filters := map[string]string{}
	for _, path := range files(t, "monitoring/metric-*.yaml") {
		m := load[logging.LogMetric](t, path)
		filters[m.Name] = m.Filter
	}
	if got := slices.Sorted(maps.Keys(filters)); !slices.Equal(got, []string{"docent_limiter_failed", "docent_limiter_recovered", "docent_outcomes"}) {
		t.Errorf("metrics %v", got)
	}
	source := read(t, "../internal/ratelimit/breaker.go")
	for name, message := range map[string]string{"docent_limiter_failed": "rate limit store failed", "docent_limiter_recovered": "rate limit store answers again"} {
		if quoted := strconv.Quote(message); strings.Count(filters[name], quoted) != 2 || !strings.Contains(source, quoted) {
			t.Errorf("%s counts %s, want the message %s that is logged", name, filters[name], quoted)
		}
	}
	using := files(t, "monitoring/alert-*.yaml")
	if len(using) != 2 {
		t.Errorf("alerts %v, want two", using)
	}
	for _, path := range append(using, "monitoring/dashboard.json") {
		used := metric.FindAllStringSubmatch(read(t, path), -1)
		if len(used) == 0 {
			t.Errorf("%s uses no metric", path)
		}
		for _, m := range used {
			if filters[m[1]] == "" {
				t.Errorf("%s uses %s, which does not exist", path, m[1])
			}
		}
	}
}

// row matches the status and the code of a row in the table of errors in docs/http.md.
var row = regexp.MustCompile("(?m)^\\| (5\\d\\d) \\| `(\\w+)` \\|")

func TestMonitoring_FailureCodes(t *testing.T) {
	t.Parallel()
	var failures []string
	for _, m := range row.FindAllStringSubmatch(read(t, "../docs/http.md"), -1) {
		failures = append(failures, m[2])
	}
	slices.Sort(failures)
	for _, path := range []string{"monitoring/alert-error-ratio.yaml", "monitoring/dashboard.json"} {
		lists := outcomes.FindAllStringSubmatch(strings.ReplaceAll(read(t, path), `\"`, `"`), -1)
		if len(lists) < 2 {
			t.Errorf("%s has no ratio", path)
		}
		for _, m := range lists {
			var counted []string
			for code := range strings.SplitSeq(m[1], ", ") {
				if code = strings.Trim(code, `"`); code != "granted" {
					counted = append(counted, code)
				}
			}
			slices.Sort(counted)
			if diff := cmp.Diff(failures, counted); diff != "" {
				t.Errorf("%s (-docs/http.md's 5xx +counted):\n%s", path, diff)
			}
		}
	}
	// An instance at its ceiling logs 600 grants a minute, but only 60 refusals.
	ratio := load[monitoring.AlertPolicy](t, "monitoring/alert-error-ratio.yaml").Conditions[0].ConditionThreshold
	if ratio.ThresholdValue >= 60.0/(600+60) {
		t.Errorf("the threshold %v is too high for an instance at its ceiling to reach", ratio.ThresholdValue)
	}
	for _, want := range []string{fmt.Sprintf("(the alert is at %v)", ratio.ThresholdValue), fmt.Sprintf(`"value": %v,`, ratio.ThresholdValue)} {
		if !strings.Contains(read(t, "monitoring/dashboard.json"), want) {
			t.Errorf("the dashboard does not show %s, as the alert has it", want)
		}
	}
	page := read(t, "monitoring/alert-error-ratio.md")
	for _, code := range failures {
		if !strings.Contains(page, "| `"+code+"` |") {
			t.Errorf("the alert's page does not say what to do about %s", code)
		}
	}
}

func TestMonitoring_AlertPages(t *testing.T) {
	t.Parallel()
	for _, path := range files(t, "monitoring/alert-*.yaml") {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			policy := load[monitoring.AlertPolicy](t, path)
			page := strings.TrimSuffix(path, ".yaml") + ".md"
			if !strings.Contains(policy.Documentation.Content, "deploy/"+page) {
				t.Errorf("the alert's text does not name %s", page)
			}
			read(t, page)
			for _, c := range policy.Conditions {
				if c.ConditionThreshold == nil || c.ConditionThreshold.Comparison != "COMPARISON_GT" {
					t.Errorf("%s has no threshold", c.DisplayName)
				}
			}
		})
	}
}

func TestMonitoring_DashboardLayout(t *testing.T) {
	t.Parallel()
	d := load[dashboard.Dashboard](t, "monitoring/dashboard.json")
	taken := map[[2]int64]string{}
	for _, tile := range d.MosaicLayout.Tiles {
		for x := tile.XPos; x < tile.XPos+tile.Width; x++ {
			for y := tile.YPos; y < tile.YPos+tile.Height; y++ {
				if other := taken[[2]int64{x, y}]; other != "" || x >= d.MosaicLayout.Columns {
					t.Fatalf("%q overlaps %q or is outside the columns", tile.Widget.Title, other)
				}
				taken[[2]int64{x, y}] = tile.Widget.Title
			}
		}
	}
}

func TestHosting_Config(t *testing.T) {
	t.Parallel()
	var site struct {
		Hosting struct {
			Public   string
			Ignore   []string
			Rewrites []struct {
				Source string
				Run    struct {
					ServiceID string `json:"serviceId"`
					Region    string
					PinTag    bool `json:"pinTag"`
				}
			}
			Headers []struct {
				Source  string
				Headers []struct{ Key, Value string }
			}
		}
	}
	const dir = "../examples/firebase-hosting/"
	strict := json.NewDecoder(strings.NewReader(read(t, dir+"firebase.json")))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&site); err != nil {
		t.Fatal(err)
	}
	rewrite := site.Hosting.Rewrites[0]
	substitutions := load[cloudbuild.Build](t, "../cloudbuild.yaml").Substitutions
	if rewrite.Source != "/api/chatkit/**" || rewrite.Run.ServiceID != substitutions["_SERVICE"] || rewrite.Run.Region != substitutions["_REGION"] || !rewrite.Run.PinTag {
		t.Errorf("rewrite %+v", rewrite)
	}
	headers := map[string]string{}
	for _, h := range site.Hosting.Headers[0].Headers {
		headers[h.Key] = h.Value
	}
	policy := map[string][]string{}
	for directive := range strings.SplitSeq(headers["Content-Security-Policy"], ";") {
		words := strings.Fields(directive)
		policy[words[0]] = words[1:]
	}
	const chatkit = "https://cdn.platform.openai.com"
	for directive, source := range map[string]string{"script-src": chatkit, "frame-src": chatkit, "connect-src": "'self'"} {
		if !slices.Contains(policy[directive], source) {
			t.Errorf("%s is %v, ChatKit needs %s", directive, policy[directive], source)
		}
	}
	if slices.Contains(policy["script-src"], "'unsafe-inline'") {
		t.Error("the policy allows inline scripts")
	}
	if _, ok := headers["Cross-Origin-Embedder-Policy"]; ok {
		t.Error("Cross-Origin-Embedder-Policy blocks ChatKit's frame")
	}
	// Every local file that the page loads must exist, except for what the rewrite
	// forwards to Docent.
	page := read(t, dir+site.Hosting.Public+"/index.html")
	local := regexp.MustCompile(`(?:src|href)="(/[^"]+)"`).FindAllStringSubmatch(page, -1)
	if len(local) == 0 {
		t.Error("the page loads nothing")
	}
	for _, m := range local {
		if !strings.HasPrefix(m[1], strings.TrimSuffix(rewrite.Source, "**")) {
			read(t, dir+site.Hosting.Public+m[1])
		}
	}
	if !slices.Contains(policy["script-src"], "'self'") {
		t.Errorf("script-src is %v, but the widget comes from the site's own origin", policy["script-src"])
	}
	if regexp.MustCompile(`<script>|<style>|style=| on\w+=`).MatchString(page) {
		t.Error("the page has inline scripts or styles, which its own policy blocks")
	}
}
