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

// standIns returns a PATH with a fake gcloud and a fake curl.
func standIns(t *testing.T) string {
	t.Helper()
	read(t, "testdata/gcloud") // Makes the cached result of the test depend on the file.
	read(t, "testdata/curl")
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	return dir + ":/usr/bin:/bin"
}

// buildStep runs the script of a step of cloudbuild.yaml with the fake gcloud and
// curl, which keep their state in a directory. It returns the output, standard error
// included.
func buildStep(t *testing.T, state, id string, environment ...string) (string, error) {
	t.Helper()
	read(t, "env.sh") // Makes the cached result of the test depend on the file.
	build := load[cloudbuild.Build](t, "../cloudbuild.yaml")
	i := slices.IndexFunc(build.Steps, func(s *cloudbuild.BuildStep) bool { return s.Id == id })
	if i < 0 {
		t.Fatalf("cloudbuild.yaml has no step %s", id)
	}
	// A build has these directories to itself. Parallel tests do not.
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

// A tag makes its revision public. A build that fails after it has set the tag must
// remove it.
func TestBuild_TagRemoved(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		environment []string
		failing     string // The step that fails.
	}{
		{"no step fails", nil, ""},
		{"the revision does not become ready", []string{"FAIL=run deploy"}, "deploy"},
		{"the service cannot be described", []string{"FAIL=services describe"}, "smoke"},
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
				t.Errorf("tags left: %v %v", tags, err)
			}
			traffic, err := os.ReadFile(state + "/traffic")
			if got := string(traffic); (err == nil) != (tt.failing == "") || err == nil && got != "docent-b-b0b1b2b3=100\n" {
				t.Errorf("the traffic goes to %q (%v)", got, err)
			}
		})
	}
}
