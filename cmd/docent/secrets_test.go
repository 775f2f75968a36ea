package main_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"docent/internal/standin"
)

const newKey = "sk-test-NEW0000000000000000000000000000NEW"

// manager returns a stand-in Secret Manager with the test's values, and the
// environment variables to use it.
func manager(t *testing.T) (*standin.SecretManager, []string) {
	t.Helper()
	m, err := standin.NewSecretManager()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	m.Add("test-project/openai-api-key", testKey+"\n") // With the line break that echo adds.
	m.Add("test-project/chatkit-workflow-id", testWorkflow)
	m.Add("test-project/identity-key", testIdentity)
	return m, []string{
		"SECRET_MANAGER_EMULATOR_HOST=" + m.Address(), "GOOGLE_CLOUD_PROJECT=test-project",
		"OPENAI_API_KEY=sm://openai-api-key", "CHATKIT_WORKFLOW_ID=sm://test-project/chatkit-workflow-id", "IDENTITY_KEY=sm://identity-key#1",
	}
}

func TestSecrets_FromSecretManager(t *testing.T) {
	t.Parallel()
	m, env := manager(t)
	d := start(t, env...)
	if r := d.ask(t, http.MethodPost, sessionPath); r.StatusCode != 200 {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	m.Close()
	if r := d.ask(t, http.MethodPost, sessionPath); r.StatusCode != 200 {
		t.Errorf("with Secret Manager down: %d %s", r.StatusCode, r.body)
	}
}

func TestRotation_UnderLoad(t *testing.T) {
	t.Parallel()
	const visitors = 50
	m, env := manager(t)
	d := start(t, append(env, "RATE_LIMIT_PER_MINUTE=1000")...)
	var arrived sync.WaitGroup
	arrived.Add(visitors)
	rotated := make(chan struct{})
	for range visitors {
		d.openai.Fail(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			arrived.Done()
			<-rotated // All are in flight with the old key when it is rotated.
			answers(401, errorBody)(w, r)
		})
	}
	var wg sync.WaitGroup
	for i := range visitors {
		wg.Go(func() {
			r := d.ask(t, http.MethodPost, sessionPath, header("X-Forwarded-For", fmt.Sprintf("192.0.2.%d", i)))
			if r.StatusCode != 200 {
				t.Errorf("visitor %d: %d %s", i, r.StatusCode, r.body)
			}
		})
	}
	arrived.Wait()
	m.Add("test-project/openai-api-key", newKey)
	d.openai.SetKey(newKey)
	close(rotated)
	wg.Wait()
	calls := map[string]int{}
	for _, key := range d.openai.Keys() {
		calls[key]++
	}
	if calls[testKey] != visitors || calls[newKey] != visitors {
		t.Errorf("calls by key: %v, want %d with each", calls, visitors)
	}
	if strings.Contains(d.output.String(), newKey) {
		t.Errorf("the log has the new key:\n%s", d.output)
	}
}

// TestRotation_KeyInvalidInHeader rotates to a key that no HTTP header can carry,
// and has OpenAI reject the old one once: the old key stays in use, and the log says
// why.
func TestRotation_KeyInvalidInHeader(t *testing.T) {
	t.Parallel()
	m, env := manager(t)
	d := start(t, env...)
	m.Add("test-project/openai-api-key", newKey+"\nrest")
	d.openai.Fail(answers(401, errorBody))
	if r := d.ask(t, http.MethodPost, sessionPath); r.StatusCode != 502 || r.Code != "upstream_rejected" {
		t.Errorf("rejected: %d %s", r.StatusCode, r.body)
	}
	if r := d.ask(t, http.MethodPost, sessionPath); r.StatusCode != 200 {
		t.Errorf("with the last good key: %d %s", r.StatusCode, r.body)
	}
	d.records(t, 2)
	output := d.output.String()
	for _, want := range []string{
		`"severity":"WARNING"`, "secret not refreshed, its last good value stays in use", "sm://test-project/openai-api-key", "there is a line break in it",
	} {
		if !strings.Contains(output, want) {
			t.Errorf("the log does not say %q:\n%s", want, output)
		}
	}
	if strings.Contains(output, newKey) {
		t.Errorf("the log has the new key:\n%s", output)
	}
}

func TestRotation_WrongKeyLookedUpOnce(t *testing.T) {
	t.Parallel()
	m, env := manager(t)
	d := start(t, append(env, "RATE_LIMIT_PER_MINUTE=1000")...)
	d.openai.SetKey(newKey) // Secret Manager still has the old one.
	for range 20 {
		if r := d.ask(t, http.MethodPost, sessionPath); r.StatusCode != 502 || r.Code != "upstream_rejected" {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	}
	if n := len(d.openai.Keys()); n != 20 {
		t.Errorf("OpenAI was called %d times, want 20", n)
	}
	if n := m.Calls("test-project/openai-api-key"); n != 2 {
		t.Errorf("the key was looked up %d times, want at start and once", n)
	}
}

func TestStart_UnreadableSecrets(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		spoil func(m *standin.SecretManager)
		env   string
		want  []string
	}{
		{"no such secret", nil, "CHATKIT_WORKFLOW_ID=sm://nowhere", []string{"CHATKIT_WORKFLOW_ID", "sm://test-project/nowhere", "gcloud secrets create nowhere"}},
		{"no permission", func(m *standin.SecretManager) { m.Deny("test-project/openai-api-key") }, "", []string{"OPENAI_API_KEY", "gcloud secrets add-iam-policy-binding openai-api-key"}},
		{"disabled", func(m *standin.SecretManager) { m.Disable("test-project/openai-api-key", 1) }, "", []string{"OPENAI_API_KEY", "gcloud secrets versions enable 1 --secret=openai-api-key"}},
		{"damaged", func(m *standin.SecretManager) { m.Corrupt("test-project/openai-api-key", true) }, "", []string{"OPENAI_API_KEY", "checksum"}},
		{"empty", func(m *standin.SecretManager) { m.Add("test-project/openai-api-key", "\n") }, "", []string{"OPENAI_API_KEY", "it is empty"}},
		{"line break in the key", func(m *standin.SecretManager) { m.Add("test-project/openai-api-key", testKey+"\nrest") }, "", []string{
			"OPENAI_API_KEY: sm://test-project/openai-api-key: there is a line break in it", "gcloud secrets versions add openai-api-key",
		}},
		{"control character in the key", func(m *standin.SecretManager) { m.Add("test-project/openai-api-key", testKey+"\x00") }, "", []string{
			"OPENAI_API_KEY: sm://test-project/openai-api-key: there is a control character in it", "gcloud secrets versions add openai-api-key",
		}},
		{"identity key too short", func(m *standin.SecretManager) { m.Add("test-project/short", "short") }, "IDENTITY_KEY=sm://short#1", []string{"IDENTITY_KEY has 5 bytes"}},
		{"Secret Manager down", nil, "SECRET_MANAGER_EMULATOR_HOST=" + nowhere, []string{"OPENAI_API_KEY", "Secret Manager does not answer", "connection refused"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, env := manager(t)
			if tt.spoil != nil {
				tt.spoil(m)
			}
			began := time.Now()
			_, stderr := fails(t, append(env, "PORT=127.0.0.1:0", "ALLOWED_ORIGINS="+testOrigin, tt.env)...)
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("the start took %s to fail", took)
			}
			for _, want := range tt.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("the message does not say %q:\n%s", want, stderr)
				}
			}
		})
	}
}
