package deploy_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"google.golang.org/api/cloudbuild/v1"
	"google.golang.org/api/run/v1"
)

// secretKey and secretWorkflow are the secrets that setup.sh gets and must not print.
const (
	secretKey      = "sk-proj-CANARY00000000000000000000000KEY"
	secretWorkflow = "wf_CANARY0000000000000000"
)

var update = flag.Bool("update", false, "rewrite the golden file")

// setup runs this repository's setup.sh.
func setup(t *testing.T, state string, arguments ...string) (string, error) {
	t.Helper()
	return setupOf(t, "..", state, arguments...)
}

// setupOf runs a repository's setup.sh without a terminal and with a fake gcloud,
// which keeps its state in a directory. It returns the output, standard error
// included.
func setupOf(t *testing.T, repository, state string, arguments ...string) (string, error) {
	t.Helper()
	read(t, "setup.sh") // Makes the cached result of the test depend on the file.
	read(t, "env.sh")
	cmd := exec.CommandContext(t.Context(), "bash", append([]string{"-x", repository + "/deploy/setup.sh", "--project=my-docs-project", "--region=europe-west1"}, arguments...)...)
	cmd.Env = []string{"PATH=" + standIns(t), "HOME=" + state, "STATE=" + state}
	out, err := cmd.CombinedOutput()
	for _, secret := range []string{secretKey, secretWorkflow} {
		if bytes.Contains(out, []byte(secret)) {
			t.Errorf("%s is printed:\n%s", secret, out)
		}
	}
	// With -x, bash prints each command until the script turns that off.
	return regexp.MustCompile(`(?m)^\+.*\n`).ReplaceAllString(string(out), ""), err
}

// secretFiles returns the options that name files with the secrets. The paths are
// relative to the test's directory, although setup.sh works in another one.
func secretFiles(t *testing.T) []string {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.Rel(here, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	key, workflow := dir+"/key", dir+"/workflow"
	for path, value := range map[string]string{key: secretKey, workflow: secretWorkflow} {
		if err := os.WriteFile(path, []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"--openai-api-key-file=" + key, "--workflow-id-file=" + workflow}
}

func TestSetup_DryRun(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	first, err := setup(t, state, "--dry-run")
	if err != nil {
		t.Fatalf("%v\n%s", err, first)
	}
	if *update {
		if err := os.WriteFile("testdata/setup.golden", []byte(first), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(read(t, "testdata/setup.golden"), first); diff != "" {
		t.Errorf("setup.sh --dry-run (-testdata/setup.golden +got):\n%s", diff)
	}
	if again, err := setup(t, state, "--dry-run"); err != nil || again != first {
		t.Errorf("the second time (%v) (-first +second):\n%s", err, cmp.Diff(first, again))
	}
	if log, err := os.ReadFile(state + "/log"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("gcloud was run:\n%s", log)
	}
	// With secret files, it prints their names. setup fails if it prints a secret.
	if out, err := setup(t, state, append(secretFiles(t), "--dry-run")...); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// commands returns the gcloud commands that were run, without those that only
// describe, and the secrets that were stored.
func commands(t *testing.T, state string) (did []string, stored map[string]string) {
	t.Helper()
	stored = map[string]string{}
	log := read(t, state+"/log")
	for line := range strings.Lines(log) {
		command, input, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if name, ok := strings.CutPrefix(command, "secrets versions add "); ok {
			name, _, _ = strings.Cut(name, " ")
			stored[name] = input
		}
		if !strings.Contains(command, " describe ") {
			did = append(did, command)
		}
		for _, secret := range []string{secretKey, secretWorkflow} {
			if strings.Contains(command, secret) {
				t.Errorf("gcloud got %s as an argument", secret)
			}
		}
	}
	if err := os.Remove(state + "/log"); err != nil {
		t.Fatal(err)
	}
	return did, stored
}

func TestSetup(t *testing.T) {
	t.Parallel()
	state, options := t.TempDir(), secretFiles(t)
	if out, err := setup(t, state, options...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	did, stored := commands(t, state)
	identity := stored["docent-identity-key"]
	if want := map[string]string{"openai-api-key": secretKey, "chatkit-workflow-id": secretWorkflow, "docent-identity-key": identity}; !cmp.Equal(want, stored) {
		t.Errorf("secrets (-want +got):\n%s", cmp.Diff(want, stored))
	}
	if !regexp.MustCompile(`^[A-Za-z0-9+/]{43}=$`).MatchString(identity) {
		t.Error("the identity key is not 32 random bytes")
	}
	first := strings.Join(did, "\n")
	for _, order := range [][2]string{
		{"--role=roles/secretmanager.secretAccessor", "run jobs execute docent-check"},
		{"run jobs execute docent-check", "run services replace"},
	} {
		if i, j := strings.Index(first, order[0]), strings.Index(first, order[1]); i < 0 || j < i {
			t.Errorf("%q must come before %q:\n%s", order[0], order[1], first)
		}
	}

	var service run.Service
	manifest := read(t, state+"/service.yaml")
	if err := decode([]byte(manifest), &service); err != nil {
		t.Fatal(err)
	}
	image := "europe-west1-docker.pkg.dev/my-docs-project/docent/docent:first"
	if got := service.Spec.Template.Spec; got.Containers[0].Image != image || got.ServiceAccountName != "docent-run@my-docs-project.iam.gserviceaccount.com" {
		t.Errorf("image %q, account %q", got.Containers[0].Image, got.ServiceAccountName)
	}
	served := map[string]string{}
	for _, v := range service.Spec.Template.Spec.Containers[0].Env {
		served[v.Name] = v.Value
	}
	var checked map[string]string
	if err := yaml.Unmarshal([]byte(read(t, state+"/env.yaml")), &checked); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(served, checked); diff != "" {
		t.Errorf("the check job's environment differs from the service's (-service +job):\n%s", diff)
	}

	// The second run creates and replaces nothing and adds no secret version.
	if out, err := setup(t, state, options...); err != nil {
		t.Fatalf("the second time: %v\n%s", err, out)
	}
	did, stored = commands(t, state)
	if len(stored) != 0 {
		t.Error("the second time, secrets were stored")
	}
	for _, command := range did {
		if regexp.MustCompile(` create | replace |^builds submit `).MatchString(command) {
			t.Errorf("the second time: %s", command)
		}
	}
}

// binding matches a role that setup.sh grants to an account, and the resource.
var binding = regexp.MustCompile(`(?m)^gcloud (.*) add-iam-policy-binding (\S+) --member=serviceAccount:(docent-\w+)@\S+ --role=(\S+)`)

func TestSetup_Roles(t *testing.T) {
	t.Parallel()
	got := map[string][]string{}
	for _, m := range binding.FindAllStringSubmatch(read(t, "testdata/setup.golden"), -1) {
		got[m[3]] = append(got[m[3]], m[4]+" on "+m[1]+" "+m[2])
	}
	want := map[string][]string{
		"docent-run": {
			"roles/datastore.user on projects my-docs-project",
			"roles/secretmanager.secretAccessor on secrets openai-api-key",
			"roles/secretmanager.secretAccessor on secrets chatkit-workflow-id",
			"roles/secretmanager.secretAccessor on secrets docent-identity-key",
		},
		"docent-build": {
			"roles/storage.objectViewer on storage buckets gs://my-docs-project-docent-source",
			"roles/artifactregistry.writer on artifacts repositories docent",
			"roles/iam.serviceAccountUser on iam service-accounts docent-run@my-docs-project.iam.gserviceaccount.com",
			"roles/logging.logWriter on projects my-docs-project",
			"roles/run.developer on projects my-docs-project",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("roles (-want +got):\n%s", diff)
	}
}

func TestSetup_MissingSecret(t *testing.T) {
	t.Parallel()
	state, options := t.TempDir(), secretFiles(t)
	if out, err := setup(t, state, options...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	commands(t, state)
	lost, err := filepath.Glob(state + "/version_of_chatkit-workflow-id*")
	if err != nil || len(lost) != 1 {
		t.Fatalf("%v %v", lost, err)
	}
	if err := os.Remove(lost[0]); err != nil {
		t.Fatal(err)
	}
	if out, err := setup(t, state, options...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	did, stored := commands(t, state)
	if !cmp.Equal(stored, map[string]string{"chatkit-workflow-id": secretWorkflow}) {
		t.Errorf("stored %v, want the workflow's ID alone", stored)
	}
	// The operator may have fixed service.yaml since the first run.
	if all := strings.Join(did, "\n"); !strings.Contains(all, "run jobs update docent-check") {
		t.Errorf("the check job keeps the environment of the first run:\n%s", all)
	}
}

// A build updates the check job to its new image. Setup must not reset the job to
// the first image, which may not support everything in service.yaml.
func TestSetup_CheckJobImage(t *testing.T) {
	t.Parallel()
	state, options := t.TempDir(), secretFiles(t)
	if out, err := setup(t, state, options...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const first = "europe-west1-docker.pkg.dev/my-docs-project/docent/docent:first"
	if got := strings.TrimSpace(read(t, state+"/job_image")); got != first {
		t.Fatalf("after the first setup, the job's image is %s, want %s", got, first)
	}
	const built = "europe-west1-docker.pkg.dev/my-docs-project/docent/docent:built"
	if out, err := buildStep(t, state, "check", "_IMAGE="+built); err != nil {
		t.Fatalf("the build's check: %v\n%s", err, out)
	}
	// The next setup has another environment, and the job has a wrong account.
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	changed := t.TempDir()
	if err := os.Symlink(here, changed+"/deploy"); err != nil {
		t.Fatal(err)
	}
	manifest := strings.ReplaceAll(read(t, "../service.yaml"), "https://taquito.io", "https://docs.example.com")
	if err := os.WriteFile(changed+"/service.yaml", []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(state+"/job_account", []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := setupOf(t, changed, state, options...); err != nil {
		t.Fatalf("the second time: %v\n%s", err, out)
	}
	if got := strings.TrimSpace(read(t, state+"/job_image")); got != built {
		t.Errorf("the job's image is %s, want that of the build, %s", got, built)
	}
	if got := strings.TrimSpace(read(t, state+"/job_account")); got != "docent-run@my-docs-project.iam.gserviceaccount.com" {
		t.Errorf("the job's account is %s", got)
	}
	if environment := read(t, state+"/env.yaml"); !strings.Contains(environment, "https://docs.example.com") {
		t.Errorf("the job keeps the environment of the first setup:\n%s", environment)
	}
}

func TestSetup_BadOptions(t *testing.T) {
	t.Parallel()
	empty := t.TempDir() + "/empty"
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name      string
		arguments []string
		want      string
	}{
		{"a secret as an argument", []string{"--openai-api-key=" + secretKey}, "unknown option --openai-api-key "},
		{"a secret without an option", []string{secretKey}, "options start with --"},
		{"no terminal and no file", nil, "cannot prompt for the OpenAI API key without a terminal"},
		{"an empty file", []string{"--openai-api-key-file=" + empty}, "the value of openai-api-key is empty"},
		{"a missing file", []string{"--openai-api-key-file=/nowhere"}, "/nowhere cannot be read"},
		{"an invalid project ID", []string{"--project=a b;c"}, "--project must be"},
		{"an invalid region", []string{"--region=europe"}, "--region must be"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if out, err := setup(t, t.TempDir(), tt.arguments...); err == nil || !strings.Contains(out, tt.want) {
				t.Errorf("%v, %q is not in:\n%s", err, tt.want, out)
			}
		})
	}
}

func TestShellScripts(t *testing.T) {
	t.Parallel()
	scripts := map[string]string{}
	for _, path := range append(files(t, "*.sh"), "testdata/gcloud", "testdata/curl") {
		scripts[path] = read(t, path)
	}
	for _, step := range load[cloudbuild.Build](t, "../cloudbuild.yaml").Steps {
		if step.Script != "" {
			scripts["cloudbuild.yaml "+step.Id] = step.Script
		}
	}
	if _, err := exec.LookPath("shellcheck"); err != nil {
		orSkip(t, "shellcheck is not installed")
	}
	for name, text := range scripts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), "shellcheck", "-")
			cmd.Stdin = strings.NewReader(text)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
