package main_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"google.golang.org/api/cloudbuild/v1"
)

// published serves a folder as docs.example.com does in the examples.
func published(t *testing.T, dir string) (url string) {
	t.Helper()
	srv := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(dir, "published"))))
	t.Cleanup(srv.Close)
	return srv.URL
}

// indexed runs the step of an example twice on a small site: before an index is
// published, and after. The second time nothing is to be embedded.
func indexed(t *testing.T, step func(dir, url string, environment []string) *exec.Cmd) {
	t.Helper()
	dir := smallSite(t)
	url := published(t, dir)
	openai, environment := newEmbeddings(t)
	for range 2 {
		out, err := step(dir, url, environment).CombinedOutput()
		noSecrets(t, string(out))
		if err != nil || !strings.Contains(string(out), "Wrote build/docs.index") {
			t.Fatalf("%v: %s", err, out)
		}
		s := loadIndex(t, filepath.Join(dir, "build", "docs.index"))
		if pieces, vectors := vectorsOf(s); len(s.Pages) != 3 || pieces != 6 || vectors != 6 || s.Pages[0].URL != siteURL+"/" {
			t.Errorf("%d pages from %s, %d of %d pieces with a vector", len(s.Pages), s.Pages[0].URL, vectors, pieces)
		}
		if n := openai.Embedded(); n != 6 {
			t.Errorf("%d texts embedded, want 6", n)
		}
		if err := os.MkdirAll(filepath.Join(dir, "published"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "build", "docs.index"), filepath.Join(dir, "published", "docs.index")); err != nil {
			t.Fatal(err)
		}
	}
}

// previousAt replaces the address of the published index in a command.
func previousAt(command, url string) string {
	return regexp.MustCompile(`(--previous[ =])`+regexp.QuoteMeta(siteURL)).ReplaceAllString(command, "${1}"+url)
}

// TestExamples_GitHubActions runs the workflow's step with a docker that runs the
// program in the folder, as its image would.
func TestExamples_GitHubActions(t *testing.T) {
	t.Parallel()
	type step struct {
		ID, Name, Uses, Run string
		With, Env           map[string]string
	}
	var workflow struct {
		Name        string
		On          map[string]any
		Permissions map[string]string
		Env         map[string]string
		Jobs        map[string]struct {
			RunsOn      string `yaml:"runs-on"`
			Environment string
			Steps       []step
		}
	}
	strict := yaml.NewDecoder(strings.NewReader(readFile(t, "../../examples/github-actions/docs.yaml")))
	strict.KnownFields(true)
	if err := strict.Decode(&workflow); err != nil {
		t.Fatal(err)
	}
	steps := workflow.Jobs["publish"].Steps
	if !slices.ContainsFunc(steps, func(s step) bool { return s.With["path"] == "build" }) {
		t.Error("the folder of the index is not published")
	}
	script := ""
	for _, s := range steps {
		if s.Uses != "" && !regexp.MustCompile(`^[\w-]+/[\w-]+@v\d+$`).MatchString(s.Uses) {
			t.Errorf("%s is not pinned to a version", s.Uses)
		}
		if s.Name == "Index the docs" {
			script = s.Run
			if s.Env["OPENAI_API_KEY"] != "${{ secrets.OPENAI_API_KEY }}" {
				t.Errorf("environment %v", s.Env)
			}
		}
	}
	indexed(t, func(dir, url string, environment []string) *exec.Cmd {
		tools := folder(t, map[string]string{"docker": `#!/usr/bin/env bash
set -euo pipefail
[ "$1" = run ] && shift
while [ "${1#--}" != "$1" ]; do
	case "$1" in
	--rm) shift ;;
	--volume) [ "$2" = "$PWD:/site" ] && shift 2 ;;
	--workdir) [ "$2" = /site ] && shift 2 ;;
	--user | --env) shift 2 ;;
	*) exit 64 ;;
	esac
done
[ "$1" = "` + workflow.Env["DOCENT"] + `" ] && shift
exec "` + binary + `" "$@"
`})
		if err := os.Chmod(filepath.Join(tools, "docker"), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "bash", "-e", "-c", previousAt(script, url))
		cmd.Dir = dir
		cmd.Env = append(environment, "PATH="+tools+":/usr/bin:/bin", "CI=true", "DOCENT="+workflow.Env["DOCENT"], "GORACE=atexit_sleep_ms=0")
		return cmd
	})
}

// TestExamples_CloudBuild runs the arguments of the build's step.
func TestExamples_CloudBuild(t *testing.T) {
	t.Parallel()
	var values map[string]any
	if err := yaml.Unmarshal([]byte(readFile(t, "../../examples/cloud-build/cloudbuild.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	var build cloudbuild.Build
	strict := json.NewDecoder(strings.NewReader(string(asJSON)))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&build); err != nil {
		t.Fatal(err)
	}
	steps := map[string]*cloudbuild.BuildStep{}
	for _, s := range build.Steps {
		steps[s.Id] = s
	}
	step := steps["index"]
	if ids := slices.Sorted(maps.Keys(steps)); !slices.Equal(ids, []string{"build", "index", "publish"}) || build.Steps[1] != step {
		t.Fatalf("steps %v", ids)
	}
	if step.Name != "${_DOCENT}" || build.Substitutions["_DOCENT"] == "" || !slices.Equal(step.SecretEnv, []string{"OPENAI_API_KEY"}) ||
		build.AvailableSecrets.SecretManager[0].Env != "OPENAI_API_KEY" {
		t.Errorf("step %+v", step)
	}
	indexed(t, func(dir, url string, environment []string) *exec.Cmd {
		var args []string
		for _, a := range step.Args {
			args = append(args, previousAt(a, url))
		}
		return command(dir, append(environment, step.Env...), args...)
	})
}
