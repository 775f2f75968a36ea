// Package deploy_test checks the deployment: that Google Cloud's APIs and Docent's
// configuration accept the files, that these agree with each other, and that the
// image's build produces a binary that serves.
package deploy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
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
	"docent/internal/chatkit"
	"docent/internal/config"
	"docent/internal/httpapi"
	docentlog "docent/internal/logging"
	"docent/internal/ratelimit"

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

// What filters and queries name: metrics, metrics in PromQL, which has the sum, the
// count and the buckets of a distribution, lists of outcomes, fields of the log, and
// types of chat requests.
var (
	metric       = regexp.MustCompile(`logging\.googleapis\.com/user/(\w+)`)
	distribution = regexp.MustCompile(`logging_googleapis_com:user_(\w+)_(?:sum|count|bucket)\{monitored_resource="cloud_run_revision",service_name="docent"`)
	outcomes     = regexp.MustCompile(`metric\.labels\.outcome = one_of\(([^)]*)\)`)
	field        = regexp.MustCompile(`jsonPayload\.(\w+)`)
	chatType     = regexp.MustCompile(`"((?:threads|items)\.\w+)"`)
)

// metrics returns the metrics by name.
func metrics(t *testing.T) map[string]*logging.LogMetric {
	t.Helper()
	byName := map[string]*logging.LogMetric{}
	for _, path := range files(t, "monitoring/metric-*.yaml") {
		m := load[logging.LogMetric](t, path)
		if byName[m.Name] != nil {
			t.Errorf("there are two metrics %s", m.Name)
		}
		byName[m.Name] = m
	}
	return byName
}

func TestMonitoring_Metrics(t *testing.T) {
	t.Parallel()
	all := metrics(t)
	want := []string{
		"docent_answers", "docent_answers_burst", "docent_feedback", "docent_first_delta", "docent_limiter_failed",
		"docent_limiter_recovered", "docent_outcomes", "docent_tokens_in", "docent_tokens_out",
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(all))); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	page := read(t, "../docs/operate.md")
	for name, m := range all {
		if isDistribution := m.MetricDescriptor.ValueType == "DISTRIBUTION"; isDistribution != (m.ValueExtractor != "") || isDistribution != (m.BucketOptions != nil) {
			t.Errorf("%s is a %s with the values %q and the buckets %v", name, m.MetricDescriptor.ValueType, m.ValueExtractor, m.BucketOptions)
		}
		var labels []string
		for _, l := range m.MetricDescriptor.Labels {
			labels = append(labels, l.Key)
		}
		if diff := cmp.Diff(labels, slices.Sorted(maps.Keys(m.LabelExtractors))); diff != "" {
			t.Errorf("%s (-labels +extracted):\n%s", name, diff)
		}
		for _, text := range append(slices.Collect(maps.Values(m.LabelExtractors)), m.Filter, m.ValueExtractor) {
			for _, used := range field.FindAllStringSubmatch(text, -1) {
				if used[1] != "message" && !strings.Contains(page, "`"+used[1]+"`") {
					t.Errorf("%s uses the field %s, which docs/operate.md does not have", name, used[1])
				}
			}
		}
	}
	for _, u := range []struct {
		pattern string
		uses    *regexp.Regexp
	}{
		{"monitoring/alert-*.yaml", metric},
		{"monitoring/dashboard.json", metric},
		{"monitoring/dashboard.json", distribution},
	} {
		for _, path := range files(t, u.pattern) {
			used := u.uses.FindAllStringSubmatch(strings.ReplaceAll(read(t, path), `\"`, `"`), -1)
			if len(used) == 0 {
				t.Errorf("%s uses no metric", path)
			}
			for _, name := range used {
				switch m := all[name[1]]; {
				case m == nil:
					t.Errorf("%s uses %s, which does not exist", path, name[1])
				case u.uses == distribution && m.MetricDescriptor.ValueType != "DISTRIBUTION":
					t.Errorf("%s uses %s as a distribution", path, name[1])
				}
			}
		}
	}
}

// Sessions and messages both log an outcome, so their metrics must tell them apart.
func TestMonitoring_Routes(t *testing.T) {
	t.Parallel()
	messages := []chatkit.Type{chatkit.ThreadsCreate, chatkit.ThreadsAddUserMessage, chatkit.ThreadsRetryAfterItem}
	tests := map[string]struct {
		path  string
		types []chatkit.Type
	}{
		"docent_outcomes":    {httpapi.BasePath + "/session", nil},
		"docent_answers":     {httpapi.BasePath + "/chat", messages},
		"docent_feedback":    {httpapi.BasePath + "/chat", []chatkit.Type{chatkit.ItemsFeedback}},
		"docent_tokens_in":   {httpapi.BasePath + "/chat", nil},
		"docent_tokens_out":  {httpapi.BasePath + "/chat", nil},
		"docent_first_delta": {httpapi.BasePath + "/chat", nil},
	}
	all := metrics(t)
	for name, tt := range tests {
		filter := all[name].Filter
		if !strings.Contains(filter, " AND httpRequest.requestUrl="+strconv.Quote(tt.path)+" AND ") {
			t.Errorf("%s does not select %s: %s", name, tt.path, filter)
		}
		var types []chatkit.Type
		for _, m := range chatType.FindAllStringSubmatch(filter, -1) {
			types = append(types, chatkit.Type(m[1]))
		}
		if diff := cmp.Diff(tt.types, types); diff != "" {
			t.Errorf("%s, types (-want +got):\n%s", name, diff)
		}
	}
	for _, m := range messages {
		if !m.Streams() {
			t.Errorf("%s is not a message", m)
		}
	}
}

// The messages that metrics count are those that Docent logs.
func TestMonitoring_Messages(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	noon := time.Date(2026, time.December, 1, 12, 0, 0, 0, time.UTC)
	day := ratelimit.NewDay(ratelimit.DayOptions{
		PerAddress: ratelimit.Unlimited, Site: 20,
		Log: docentlog.New(&log, "json", slog.LevelInfo), Now: func() time.Time { return noon },
	})
	for range 5 {
		if _, err := day.Take(t.Context(), ratelimit.KeyOf(netip.MustParseAddr("192.0.2.1"))); err != nil {
			t.Fatal(err)
		}
	}
	var burst struct{ Severity, Message string }
	if err := json.Unmarshal(log.Bytes(), &burst); err != nil || burst.Severity != "WARNING" {
		t.Fatalf("a burst is logged as %q: %v", log.String(), err)
	}
	all, source := metrics(t), read(t, "../internal/ratelimit/breaker.go")
	for name, message := range map[string]string{
		"docent_answers_burst":     burst.Message,
		"docent_limiter_failed":    "rate limit store failed",
		"docent_limiter_recovered": "rate limit store answers again",
	} {
		quoted := strconv.Quote(message)
		if want := "(jsonPayload.message=" + quoted + " OR textPayload=" + quoted + ")"; !strings.Contains(all[name].Filter, want) {
			t.Errorf("%s counts %s, want %s", name, all[name].Filter, want)
		}
		if message != burst.Message && !strings.Contains(source, quoted) {
			t.Errorf("%s counts %s, which is not logged", name, quoted)
		}
	}
}

// row matches the status and the code of a row in the table of errors in docs/http.md.
var row = regexp.MustCompile("(?m)^\\| (\\d\\d\\d) \\| (`\\w+`(?:, `\\w+`)*) \\|")

// documented returns the codes of docs/http.md whose status begins so.
func documented(t *testing.T, status string) []string {
	t.Helper()
	var codes []string
	for _, m := range row.FindAllStringSubmatch(read(t, "../docs/http.md"), -1) {
		if strings.HasPrefix(m[1], status) {
			codes = append(codes, strings.Split(strings.ReplaceAll(m[2], "`", ""), ", ")...)
		}
	}
	return codes
}

// without returns the sorted codes that are not in any of the lists.
func without(codes []string, lists ...[]string) []string {
	codes = slices.DeleteFunc(slices.Clone(codes), func(code string) bool {
		return slices.Contains(slices.Concat(lists...), code)
	})
	slices.Sort(codes)
	return slices.Compact(codes)
}

// messageOutcomes returns every outcome that a message can have, as the sources name
// them.
func messageOutcomes(t *testing.T) []string {
	t.Helper()
	var found []string
	for path, names := range map[string]string{
		"../internal/answer/docs.go":    `(?m)^\t[A-Z]\w+ = "(\w+)"$|StreamError\{Code: "(\w+)"`,
		"../internal/chatkit/answer.go": `StreamError\{Code: "(\w+)"`,
		"../internal/httpapi/errors.go": `(?m)^\tcode\w+ += "(\w+)"`,
		"../internal/httpapi/record.go": `(?m)^\toutcome\w+ += "(\w+)"`,
	} {
		matches := regexp.MustCompile(names).FindAllStringSubmatch(read(t, path), -1)
		if len(matches) == 0 {
			t.Errorf("%s has no outcomes", path)
		}
		for _, m := range matches {
			found = append(found, m[1:]...)
		}
	}
	return without(found, []string{""})
}

func TestMonitoring_FailureCodes(t *testing.T) {
	t.Parallel()
	// Outcomes of messages that are not failures, or not of messages.
	var (
		ofVisitors   = append(documented(t, "4"), "client_gone", "replaced") // Any client could cause them.
		ofSessions   = []string{"granted", "limited", "over_capacity"}
		ofQueries    = []string{"ok"}
		ofChat       = []string{"conversations_unavailable"} // No session needs them.
		granted      = []string{"granted"}
		answers      = []string{"answered", "no_source", "refused", "cut"}
		withoutThese = [][]string{ofVisitors, ofSessions, ofQueries, answers}
	)
	tests := []struct {
		alert, metric string
		failures, ok  []string
	}{
		{"alert-error-ratio", "docent_outcomes", without(documented(t, "5"), ofChat), granted},
		{"alert-answers-fail", "docent_answers", without(messageOutcomes(t), withoutThese...), answers},
	}
	for _, tt := range tests {
		t.Run(tt.alert, func(t *testing.T) {
			t.Parallel()
			policy := load[monitoring.AlertPolicy](t, "monitoring/"+tt.alert+".yaml")
			ratio, least := policy.Conditions[0].ConditionThreshold, policy.Conditions[1].ConditionThreshold
			filters := map[string]string{"ratio": ratio.Filter, "of": ratio.DenominatorFilter, "least": least.Filter}
			for _, tile := range load[dashboard.Dashboard](t, "monitoring/dashboard.json").MosaicLayout.Tiles {
				if !strings.HasSuffix(tile.Widget.Title, fmt.Sprintf("(the alert is at %v)", ratio.ThresholdValue)) {
					continue
				}
				chart := tile.Widget.XyChart
				if q := chart.DataSets[0].TimeSeriesQuery.TimeSeriesFilterRatio; strings.Contains(q.Numerator.Filter, "/"+tt.metric+`"`) {
					filters["dashboard"], filters["dashboard, of"] = q.Numerator.Filter, q.Denominator.Filter
					if got := chart.Thresholds[0].Value; got != ratio.ThresholdValue {
						t.Errorf("the dashboard draws the alert at %v, it is at %v", got, ratio.ThresholdValue)
					}
				}
			}
			if len(filters) != 5 {
				t.Error("the dashboard does not show the ratio")
			}
			for name, filter := range filters {
				want := slices.Clone(tt.failures)
				if strings.HasSuffix(name, "of") {
					want = without(slices.Concat(want, tt.ok))
				}
				m := outcomes.FindStringSubmatch(filter)
				if m == nil || !strings.Contains(filter, "/"+tt.metric+`"`) {
					t.Fatalf("%s: %s", name, filter)
				}
				if diff := cmp.Diff(want, without(strings.Split(strings.ReplaceAll(m[1], `"`, ""), ", "))); diff != "" {
					t.Errorf("%s (-want +counted):\n%s", name, diff)
				}
			}
			page := read(t, "monitoring/"+tt.alert+".md")
			for _, code := range tt.failures {
				if !strings.Contains(page, "| `"+code+"` |") {
					t.Errorf("the alert's page does not say what to do about %s", code)
				}
			}
		})
	}
	// An instance at its ceiling logs 600 grants a minute, but only 60 refusals.
	ratio := load[monitoring.AlertPolicy](t, "monitoring/alert-error-ratio.yaml").Conditions[0].ConditionThreshold
	if ratio.ThresholdValue >= 60.0/(600+60) {
		t.Errorf("the threshold %v is too high for an instance at its ceiling to reach", ratio.ThresholdValue)
	}
	pages := read(t, "../docs/operate.md") + read(t, "../docs/http.md")
	for _, code := range messageOutcomes(t) {
		if !strings.Contains(pages, "`"+code+"`") {
			t.Errorf("the docs do not name %s", code)
		}
	}
}

// One refusal of OpenAI to spend more is enough.
func TestMonitoring_SpendingRefused(t *testing.T) {
	t.Parallel()
	c := load[monitoring.AlertPolicy](t, "monitoring/alert-spending-refused.yaml").Conditions[0].ConditionThreshold
	const outcome = "spending_refused"
	if !strings.HasSuffix(c.Filter, ` AND metric.labels.outcome = "`+outcome+`"`) || c.ThresholdValue != 0 {
		t.Errorf("the alert is on more than %v of %s", c.ThresholdValue, c.Filter)
	}
	if !slices.Contains(messageOutcomes(t), outcome) {
		t.Errorf("no message has the outcome %s", outcome)
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
