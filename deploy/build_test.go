package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/api/cloudbuild/v1"
)

// standIns is the PATH with a gcloud and a curl that stand in.
func standIns(t *testing.T) string {
	t.Helper()
	read(t, "testdata/gcloud") // For the test's cache, which does not see what is run.
	read(t, "testdata/curl")
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	return dir + ":/usr/bin:/bin"
}

// buildStep runs the script of a step of cloudbuild.yaml with the stand-ins,
// which keep what they are told in a directory. It returns what was printed, errors
// included.
func buildStep(t *testing.T, state, id string, environment ...string) (string, error) {
	t.Helper()
	read(t, "env.sh") // For the test's cache, which does not see what is run.
	build := load[cloudbuild.Build](t, "../cloudbuild.yaml")
	i := slices.IndexFunc(build.Steps, func(s *cloudbuild.BuildStep) bool { return s.Id == id })
	if i < 0 {
		t.Fatalf("cloudbuild.yaml has no step %s", id)
	}
	// A build has these directories for itself, tests do not.
	workspace := state + "/workspace/"
	if err := os.MkdirAll(workspace, 0o755); err != nil {
		t.Fatal(err)
	}
	script := strings.NewReplacer("/workspace/", workspace, "/tmp/", workspace).Replace(build.Steps[i].Script)
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.Dir = ".."
	cmd.Env = []string{
		"PATH=" + standIns(t), "HOME=" + state, "STATE=" + state, "PROJECT_ID=my-docs-project", "BUILD_ID=b0b1b2b3-c0c1",
		"_REGION=europe-west1", "_SERVICE=" + build.Substitutions["_SERVICE"], "_ORIGIN=" + build.Substitutions["_ORIGIN"],
	}
	cmd.Env = append(cmd.Env, environment...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// A tag opens its revision to the public. A build that ends anywhere between the
// tag and the traffic must not leave it behind.
func TestBuildLeavesNoTag(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		environment []string
		failing     string // The step that fails.
	}{
		{"all is well", nil, ""},
		{"the revision does not become ready", []string{"FAIL=run deploy"}, "deploy"},
		{"the service's address is not known", []string{"FAIL=services describe"}, "smoke"},
		{"the revision is not healthy", []string{"HEALTH=503"}, "smoke"},
		{"the revision grants no session", []string{"SESSION=502"}, "smoke"},
		{"the traffic does not move", []string{"FAIL=--to-revisions"}, "traffic"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			state := t.TempDir()
			if out, err := setup(t, state, secretFiles(t)...); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			failed, said := "", ""
			for _, id := range []string{"check", "deploy", "smoke", "traffic"} {
				out, err := buildStep(t, state, id, append(tt.environment, "_IMAGE=image:built")...)
				said += out
				if err != nil {
					failed = id
					break
				}
				if id == "deploy" {
					read(t, state+"/tag_b-b0b1b2b3")
				}
			}
			if failed != tt.failing {
				t.Errorf("step %q failed, want %q:\n%s", failed, tt.failing, said)
			}
			if tags, err := filepath.Glob(state + "/tag_*"); err != nil || len(tags) != 0 {
				t.Errorf("left behind: %v %v", tags, err)
			}
			traffic, err := os.ReadFile(state + "/traffic")
			if got := string(traffic); (err == nil) != (tt.failing == "") || err == nil && got != "docent-b-b0b1b2b3=100\n" {
				t.Errorf("the traffic goes to %q (%v)", got, err)
			}
		})
	}
}
