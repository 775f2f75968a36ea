package deploy_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"docent/internal/process"
	"docent/internal/standin"

	"github.com/google/go-cmp/cmp"
)

const (
	testKey      = "sk-test-KEY0000000000000000000000000000KEY"
	testWorkflow = "wf_test"
	testOrigin   = "https://docs.example.com"
	testIdentity = "identity-key-for-tests-only-32-bytes-or-more"
	testVersion  = "v1.2.3-test"
	testRevision = "0123456789abcdef0123456789abcdef01234567"
)

// image is the result of the Dockerfile.
type image struct {
	binary     string // The path where it was built.
	path       string // The path in the image.
	base       string
	user       string
	entrypoint []string
}

// imageDir is the directory where the image is built, once for all tests.
var imageDir string

var built = sync.OnceValues(func() (image, error) { return buildImage(imageDir) })

func TestMain(m *testing.M) {
	var err error
	if imageDir, err = os.MkdirTemp("", "docent-image-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(imageDir)
	os.Exit(code)
}

// buildImage runs the Dockerfile's instructions in a directory that holds only the
// files that it copies. It uses the machine's Go compiler and caches.
func buildImage(dir string) (image, error) {
	text, err := os.ReadFile("../Dockerfile")
	if err != nil {
		return image{}, err
	}
	var (
		i        image
		workdir  string
		stage    string
		arg      = map[string]string{"VERSION": testVersion, "REVISION": testRevision}
		variable = map[string]string{}
		env      = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GOENV=off", "GOTOOLCHAIN=local"}
	)
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			return image{}, err
		}
		env = append(env, name+"="+strings.TrimSpace(string(value)))
	}
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		instruction, rest, _ := strings.Cut(line, " ")
		words := strings.Fields(rest)
		switch {
		case instruction == "FROM" && len(words) == 3 && words[1] == "AS":
			stage = words[2]
		case instruction == "FROM" && len(words) == 1:
			stage, i.base = "", words[0]
		case instruction == "WORKDIR" && stage != "":
			workdir = filepath.Join(dir, rest)
			err = os.MkdirAll(workdir, 0o755)
		case instruction == "ENV" && stage != "":
			name, value, _ := strings.Cut(rest, "=")
			variable[name] = value
			env = append(env, rest)
		case instruction == "ARG" && stage != "":
			name, _, _ := strings.Cut(rest, "=")
			env = append(env, name+"="+arg[name])
		case instruction == "COPY" && stage != "":
			err = copyIn(workdir, words)
		case instruction == "RUN" && stage != "":
			if rest != "go mod download" && variable["GOPROXY"] != "off" {
				return i, fmt.Errorf("%q may use the network", rest)
			}
			cmd := exec.Command("sh", "-c", rest)
			cmd.Dir, cmd.Env = workdir, env
			if out, failed := cmd.CombinedOutput(); failed != nil {
				err = fmt.Errorf("%w\n%s", failed, out)
			}
		case instruction == "COPY" && len(words) == 3 && words[0] == "--from=build":
			i.binary, i.path = filepath.Join(dir, words[1]), words[2]
		case instruction == "USER":
			i.user = rest
		case instruction == "ENTRYPOINT":
			err = json.Unmarshal([]byte(rest), &i.entrypoint)
		default:
			err = errors.New("this test does not support the instruction")
		}
		if err != nil {
			return i, fmt.Errorf("%s: %w", line, err)
		}
	}
	return i, nil
}

// copyIn copies files and directories of the repository into a directory, except
// for those whose names .dockerignore excludes.
func copyIn(workdir string, words []string) error {
	ignore, err := os.ReadFile("../.dockerignore")
	if err != nil {
		return err
	}
	target := filepath.Join(workdir, words[len(words)-1])
	for _, name := range words[:len(words)-1] {
		source := filepath.Join("..", name)
		info, err := os.Stat(source)
		if err != nil {
			return err
		}
		if info.IsDir() {
			err = copyDir(source, target, strings.Fields(string(ignore)))
		} else {
			err = copyFile(source, filepath.Join(target, name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func copyDir(source, target string, ignore []string) error {
	return filepath.WalkDir(source, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		for _, pattern := range ignore {
			if name, ok := strings.CutPrefix(pattern, "**/"); ok {
				ignored, err := filepath.Match(name, entry.Name())
				switch {
				case err != nil:
					return err
				case ignored && entry.IsDir():
					return filepath.SkipDir
				case ignored:
					return nil
				}
			}
		}
		below, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(target, below), 0o755)
		}
		return copyFile(path, filepath.Join(target, below))
	})
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}

func theImage(t *testing.T) image {
	t.Helper()
	i, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestImage(t *testing.T) {
	t.Parallel()
	i := theImage(t)
	want := image{base: "gcr.io/distroless/static-debian12:nonroot", user: "65532:65532", path: "/docent", entrypoint: []string{"/docent"}, binary: i.binary}
	if diff := cmp.Diff(want, i, cmp.AllowUnexported(image{})); diff != "" {
		t.Errorf("image (-want +got):\n%s", diff)
	}
	kept := strings.Split(read(t, "../.dockerignore"), "\n")
	for line := range strings.Lines(read(t, "../Dockerfile")) {
		words := strings.Fields(line)
		if len(words) < 3 || words[0] != "COPY" || strings.HasPrefix(words[1], "--") {
			continue
		}
		for _, source := range words[1 : len(words)-1] {
			if !slices.Contains(kept, "!"+source) {
				t.Errorf(".dockerignore excludes %s from the build", source)
			}
		}
	}
}

func TestImage_Sources(t *testing.T) {
	t.Parallel()
	theImage(t)
	found := map[string]bool{}
	err := filepath.WalkDir(filepath.Join(imageDir, "src", "internal", "widget"), func(path string, entry os.DirEntry, err error) error {
		if !entry.IsDir() {
			found[filepath.Base(path)] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]bool{"widget.go": true, "widget.js": true}, found); diff != "" {
		t.Errorf("files of the widget (-want +got):\n%s", diff)
	}
}

// start runs a command that is Docent until the test ends. It must exit with
// status 0 when it is told to stop.
func start(t *testing.T, cmd *exec.Cmd) (p *process.Process, url string) {
	t.Helper()
	p, err := process.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Errorf("stop: %v\n%s", err, p.Output)
		}
	})
	return p, "http://" + p.Address
}

// sessionRequest returns a page's request for a session.
func sessionRequest(t *testing.T, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/chatkit/session", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", testOrigin)
	return req
}

// answer sends a request and returns the answer and its body.
func answer(t *testing.T, client *http.Client, req *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// orSkip skips a test because something is missing. In CI it fails the test.
func orSkip(t *testing.T, lacks string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(lacks)
	}
	t.Skip(lacks)
}

func TestImage_EmptyRoot(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		orSkip(t, "changing the root directory takes root")
	}
	// Over TLS. Docent can verify this certificate only with the image's CA bundle.
	openai := standin.NewOpenAI(testKey, testWorkflow)
	upstream := httptest.NewTLSServer(openai)
	t.Cleanup(upstream.Close)

	i := theImage(t)
	root := t.TempDir()
	if err := os.MkdirAll(root+"/etc/ssl/certs", 0o755); err != nil {
		t.Fatal(err)
	}
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: upstream.Certificate().Raw})
	if err := os.WriteFile(root+"/etc/ssl/certs/ca-certificates.crt", bundle, 0o644); err != nil {
		t.Fatal(err)
	}
	// Link the binary rather than copying it. A child process that starts during the
	// copy would inherit the open file, and the kernel does not execute a file that is
	// open for writing (ETXTBSY).
	if err := os.Link(i.binary, root+i.path); err != nil {
		t.Fatal(err)
	}
	inside := func(arguments ...string) *exec.Cmd {
		cmd := exec.CommandContext(context.Background(), i.entrypoint[0], arguments...) // The test itself stops the process.
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
		return cmd
	}
	serve := inside()
	serve.Env = []string{
		"PORT=127.0.0.1:0", "ALLOWED_ORIGINS=" + testOrigin, "OPENAI_API_KEY=" + testKey, "CHATKIT_WORKFLOW_ID=" + testWorkflow,
		"OPENAI_BASE_URL=" + upstream.URL + "/v1", "LOG_FORMAT=json",
	}
	p, url := start(t, serve)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/health", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, body := answer(t, http.DefaultClient, req); resp.StatusCode != http.StatusOK || !strings.Contains(body, `"ok"`) {
		t.Errorf("health: %d %s", resp.StatusCode, body)
	}
	if resp, body := answer(t, http.DefaultClient, sessionRequest(t, url)); resp.StatusCode != http.StatusOK || !strings.Contains(body, `"ek_`) {
		t.Errorf("session: %d %s", resp.StatusCode, body)
	}
	if t.Failed() {
		t.Logf("Docent wrote:\n%s", p.Output)
	}
	version, err := inside("version").CombinedOutput()
	for _, want := range []string{testVersion, testRevision} {
		if err != nil || !strings.Contains(string(version), want) {
			t.Errorf("docent version: %s (%v), want %s in it", version, err, want)
		}
	}
}
