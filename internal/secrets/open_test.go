package secrets_test

import (
	"context"
	"errors"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"docent/internal/secrets"
	"docent/internal/standin"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	m := newSecretManager(t)
	m.Add("docs-site/key", "first")
	m.Add("docs-site/key", "second")
	m.Add("docs-site/newline", payload+"\n")
	m.Add("docs-site/newlines", "two words\r\n\r\n")
	m.Add("docs-site/space", " inner\nand outer \n")
	for _, tt := range []struct{ name, ref, want string }{
		{"literal", payload, payload},
		{"not set", "", ""},
		{"latest", "sm://docs-site/key", "second"},
		{"latest spelled out", "sm://docs-site/key#latest", "second"},
		{"pinned", "sm://docs-site/key#1", "first"},
		{"newline at the end", "sm://docs-site/newline", payload},
		{"newlines from Windows", "sm://docs-site/newlines", "two words"},
		{"other space", "sm://docs-site/space", " inner\nand outer "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v, source := open(t, secrets.Options{EmulatorHost: m.Address()}, tt.ref)
			wantSecret(t, v, tt.want)
			if err := source.Close(); err != nil {
				t.Error(err)
			}
			wantSecret(t, v, tt.want)
		})
	}
}

// TestOpenLiterals has credentials that cannot be read, on which any client
// would fail.
func TestOpenLiterals(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.json")
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", missing)
	var key, workflow, identity secrets.Value
	wants := []secrets.Want{
		{Variable: "OPENAI_API_KEY", Ref: ref(t, payload), Into: &key},
		{Variable: "CHATKIT_WORKFLOW_ID", Ref: ref(t, "wf_1"), Into: &workflow},
		{Variable: "IDENTITY_KEY", Ref: secrets.Ref{}, Into: &identity},
	}
	source, err := secrets.Open(t.Context(), secrets.Options{}, wants...)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	wantSecret(t, key, payload)
	wantSecret(t, workflow, "wf_1")
	wantSecret(t, identity, "")

	wants[1].Ref, wants[2].Ref = ref(t, "sm://docs-site/workflow"), ref(t, "sm://docs-site/identity#1")
	_, err = secrets.Open(t.Context(), secrets.Options{}, wants...)
	if err == nil {
		t.Fatal("Secret Manager was asked without credentials")
	}
	want := "CHATKIT_WORKFLOW_ID, IDENTITY_KEY: Secret Manager cannot be asked: open MISSING: no such file or directory; " +
		"on a machine of your own, log in with `gcloud auth application-default login`"
	if diff := cmp.Diff(want, strings.ReplaceAll(err.Error(), missing, "MISSING")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestOpenShares has one lookup serve all references to a version, at the start
// and later.
func TestOpenShares(t *testing.T) {
	t.Parallel()
	m, c := newSecretManager(t), newClock()
	m.Add("docs-site/key", "first")
	var a, b, pinned secrets.Value
	log, logged := newLog()
	source, err := secrets.Open(t.Context(), secrets.Options{EmulatorHost: m.Address(), Now: c.Now, Log: log},
		secrets.Want{Variable: "A", Ref: ref(t, "sm://docs-site/key"), Into: &a},
		secrets.Want{Variable: "B", Ref: ref(t, "sm://key#latest").WithProject("docs-site"), Into: &b},
		secrets.Want{Variable: "PINNED", Ref: ref(t, "sm://docs-site/key#1"), Into: &pinned})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	wantCalls(t, m, 2)

	m.Add("docs-site/key", "second")
	c.Advance(5 * time.Minute)
	wantSecret(t, a, "first")
	if diff := cmp.Diff(`level=INFO msg="secret changed" secret=sm://docs-site/key variables="[A B]"`,
		receive(t, logged, "the change")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	wantSecret(t, a, "second")
	wantSecret(t, b, "second")
	wantSecret(t, pinned, "first")
	wantCalls(t, m, 3)
}

// TestOpenForHeader has payloads that an HTTP header cannot carry stop the start
// where they are meant for one, and nowhere else.
func TestOpenForHeader(t *testing.T) {
	t.Parallel()
	m := newSecretManager(t)
	m.Add("docs-site/line", payload+"\nrest\n")
	m.Add("docs-site/null", payload+"\x00")
	m.Add("docs-site/newline", payload+"\r\n")
	m.Add("docs-site/space", "Bearer "+payload)
	const add = "`gcloud secrets versions add "
	for _, tt := range []struct{ name, ref, want, fault string }{
		{"line break", "sm://docs-site/line", "", "OPENAI_API_KEY: sm://docs-site/line: there is a line break in it, which no HTTP header can carry: " +
			"add a version without that with " + add + "line --project=docs-site --data-file=-`"},
		{"pinned", "sm://docs-site/line#1", "", "OPENAI_API_KEY: sm://docs-site/line#1: there is a line break in it, which no HTTP header can carry: " +
			"add a version without that with " + add + "line --project=docs-site --data-file=-` and refer to that"},
		{"control character", "sm://docs-site/null", "", "OPENAI_API_KEY: sm://docs-site/null: there is a control character in it, which no HTTP header can carry: " +
			"add a version without that with " + add + "null --project=docs-site --data-file=-`"},
		{"newline at the end", "sm://docs-site/newline", payload, ""},
		{"space", "sm://docs-site/space", "Bearer " + payload, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var key, binary secrets.Value
			log, _ := newLog()
			o := secrets.Options{EmulatorHost: m.Address(), Log: log}
			source, err := secrets.Open(t.Context(), o, secrets.Want{Variable: "OPENAI_API_KEY", Ref: ref(t, tt.ref).ForHeader(), Into: &key})
			fault := ""
			if err != nil {
				fault = err.Error()
			} else {
				defer source.Close()
			}
			if diff := cmp.Diff(tt.fault, fault); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			wantSecret(t, key, tt.want)
			binary, _ = open(t, o, tt.ref)
			if binary.Get() == "" {
				t.Error("a secret for no header is empty")
			}
		})
	}
}

// TestOpenSharesForHeader has one lookup serve a header and another purpose.
func TestOpenSharesForHeader(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{false, true} {
		m := newSecretManager(t)
		m.Add("docs-site/key", payload)
		r := ref(t, "sm://docs-site/key")
		refs := []secrets.Ref{r, r.ForHeader()}
		if first {
			slices.Reverse(refs)
		}
		var a, b secrets.Value
		o := secrets.Options{EmulatorHost: m.Address()}
		source, err := secrets.Open(t.Context(), o,
			secrets.Want{Variable: "A", Ref: refs[0], Into: &a}, secrets.Want{Variable: "B", Ref: refs[1], Into: &b})
		if err != nil {
			t.Fatal(err)
		}
		source.Close()
		wantCalls(t, m, 1)

		m.Add("docs-site/key", payload+"\x00")
		_, err = secrets.Open(t.Context(), o,
			secrets.Want{Variable: "A", Ref: refs[0], Into: &a}, secrets.Want{Variable: "B", Ref: refs[1], Into: &b})
		if err == nil || !strings.HasPrefix(err.Error(), "A, B: sm://docs-site/key: there is a control character in it") {
			t.Errorf("error %v, want one for both", err)
		}
	}
}

// TestOpenIsConcurrent compares with one lookup in the same run, whatever this
// machine's speed.
func TestOpenIsConcurrent(t *testing.T) {
	t.Parallel()
	m := newSecretManager(t)
	took := func(names ...string) time.Duration {
		var wants []secrets.Want
		for _, name := range names {
			m.Add("docs-site/"+name, payload)
			wants = append(wants, secrets.Want{Variable: name, Ref: ref(t, "sm://docs-site/"+name), Into: new(secrets.Value)})
		}
		start := time.Now()
		source, err := secrets.Open(t.Context(), secrets.Options{EmulatorHost: m.Address()}, wants...)
		if err != nil {
			t.Fatal(err)
		}
		defer source.Close()
		return time.Since(start)
	}
	m.SetDelay(300 * time.Millisecond)
	var one, three time.Duration
	for range 3 { // Others may keep this machine busy; one after another would fail each time.
		one, three = took("a"), took("b", "c", "d")
		if three < 2*one {
			return
		}
	}
	t.Errorf("three secrets took %v, one took %v", three, one)
}

func TestOpenFaults(t *testing.T) {
	t.Parallel()
	const account = "docent@docs-site.iam.gserviceaccount.com"
	onCloudRun := func(context.Context) (string, error) { return account, nil }
	serviceDisabled, err := status.New(codes.PermissionDenied, "Secret Manager API has not been used in project 1 before or it is disabled.").
		WithDetails(&errdetails.ErrorInfo{Reason: "SERVICE_DISABLED", Domain: "googleapis.com"})
	if err != nil {
		t.Fatal(err)
	}
	stored := func(m *standin.SecretManager) { m.Add("docs-site/key", payload) }
	failing := func(err error) func(*standin.SecretManager) {
		return func(m *standin.SecretManager) { m.Fail("docs-site/key", err) }
	}
	for _, tt := range []struct {
		name    string
		arrange func(*standin.SecretManager)
		account func(context.Context) (string, error)
		ref     string // Default sm://docs-site/key.
		want    string // After the variable and the reference.
	}{
		{
			name:    "no such secret",
			arrange: func(*standin.SecretManager) {},
			want: "there is no such secret, or no such version of it " +
				"(NotFound: Secret [projects/docs-site/secrets/key] not found or has no versions.): " +
				"create it with `gcloud secrets create key --project=docs-site --replication-policy=automatic --data-file=-`, " +
				"or a version with `gcloud secrets versions add key --project=docs-site --data-file=-`",
		},
		{
			name: "no such version", arrange: stored, ref: "sm://docs-site/key#2",
			want: "there is no such secret, or no such version of it " +
				"(NotFound: Secret Version [projects/docs-site/secrets/key/versions/2] not found.): " +
				"create it with `gcloud secrets create key --project=docs-site --replication-policy=automatic --data-file=-`, " +
				"or a version with `gcloud secrets versions add key --project=docs-site --data-file=-`",
		},
		{
			name:    "permission missing",
			arrange: func(m *standin.SecretManager) { m.Deny("docs-site/key") },
			account: onCloudRun,
			want: account + " may not read it, or it does not exist " +
				"(PermissionDenied: Permission 'secretmanager.versions.access' denied for resource 'docs-site/key' (or it may not exist).): " +
				"grant the role with `gcloud secrets add-iam-policy-binding key --project=docs-site " +
				"--member=serviceAccount:" + account + " --role=roles/secretmanager.secretAccessor`",
		},
		{
			name:    "permission missing, on a laptop",
			arrange: func(m *standin.SecretManager) { m.Deny("docs-site/key") },
			want: "the account this runs as may not read it, or it does not exist " +
				"(PermissionDenied: Permission 'secretmanager.versions.access' denied for resource 'docs-site/key' (or it may not exist).): " +
				"grant the role with `gcloud secrets add-iam-policy-binding key --project=docs-site " +
				"--member=serviceAccount:SERVICE_ACCOUNT --role=roles/secretmanager.secretAccessor`",
		},
		{
			name:    "permission missing, no metadata",
			arrange: func(m *standin.SecretManager) { m.Deny("docs-site/key") },
			account: func(context.Context) (string, error) { return "", errors.New("not defined") },
			want: "the account this runs as may not read it, or it does not exist " +
				"(PermissionDenied: Permission 'secretmanager.versions.access' denied for resource 'docs-site/key' (or it may not exist).): " +
				"grant the role with `gcloud secrets add-iam-policy-binding key --project=docs-site " +
				"--member=serviceAccount:SERVICE_ACCOUNT --role=roles/secretmanager.secretAccessor`",
		},
		{
			name:    "permission missing, metadata server hangs",
			arrange: func(m *standin.SecretManager) { m.Deny("docs-site/key") },
			account: func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() },
			want: "the account this runs as may not read it, or it does not exist " +
				"(PermissionDenied: Permission 'secretmanager.versions.access' denied for resource 'docs-site/key' (or it may not exist).): " +
				"grant the role with `gcloud secrets add-iam-policy-binding key --project=docs-site " +
				"--member=serviceAccount:SERVICE_ACCOUNT --role=roles/secretmanager.secretAccessor`",
		},
		{
			name: "API not enabled", arrange: failing(serviceDisabled.Err()),
			want: "the project does not use Secret Manager " +
				"(PermissionDenied: Secret Manager API has not been used in project 1 before or it is disabled.): " +
				"enable it with `gcloud services enable secretmanager.googleapis.com --project=docs-site`",
		},
		{
			name:    "pinned version disabled",
			arrange: func(m *standin.SecretManager) { m.Disable("docs-site/key", m.Add("docs-site/key", payload)) },
			ref:     "sm://docs-site/key#1",
			want: "the version is disabled (FailedPrecondition: Secret Version [projects/docs-site/secrets/key/versions/1] is in DISABLED state.): " +
				"enable it with `gcloud secrets versions enable 1 --secret=key --project=docs-site`",
		},
		{
			name: "latest version disabled",
			arrange: func(m *standin.SecretManager) {
				m.Add("docs-site/key", "first")
				m.Disable("docs-site/key", m.Add("docs-site/key", payload))
			},
			want: "the version is disabled (FailedPrecondition: Secret Version [projects/docs-site/secrets/key/versions/2] is in DISABLED state.): " +
				"enable it with `gcloud secrets versions enable 2 --secret=key --project=docs-site`",
		},
		{
			name: "disabled in other words", arrange: failing(status.Error(codes.FailedPrecondition, "It is DISABLED.")),
			want: "the version is disabled (FailedPrecondition: It is DISABLED.): " +
				"enable it with `gcloud secrets versions enable VERSION --secret=key --project=docs-site`",
		},
		{
			name:    "pinned version destroyed",
			arrange: func(m *standin.SecretManager) { m.Destroy("docs-site/key", m.Add("docs-site/key", payload)) },
			ref:     "sm://docs-site/key#1",
			want: "the version is destroyed (FailedPrecondition: Secret Version [projects/docs-site/secrets/key/versions/1] is in DESTROYED state.): " +
				"add another with `gcloud secrets versions add key --project=docs-site --data-file=-` and refer to that",
		},
		{
			name:    "latest version destroyed",
			arrange: func(m *standin.SecretManager) { m.Destroy("docs-site/key", m.Add("docs-site/key", payload)) },
			want: "the version is destroyed (FailedPrecondition: Secret Version [projects/docs-site/secrets/key/versions/1] is in DESTROYED state.): " +
				"add another with `gcloud secrets versions add key --project=docs-site --data-file=-`",
		},
		{
			name: "encryption key gone", arrange: failing(status.Error(codes.FailedPrecondition, "KMS key is not usable.")),
			want: "the version cannot be used (FailedPrecondition: KMS key is not usable.)",
		},
		{
			name: "unauthenticated", arrange: failing(status.Error(codes.Unauthenticated, "Request had invalid credentials.")),
			want: "the credentials are not accepted (Unauthenticated: Request had invalid credentials.): " +
				"on Google Cloud, look whether the service account still exists and is enabled; " +
				"elsewhere, log in with `gcloud auth application-default login`",
		},
		{
			name: "internal", arrange: failing(status.Error(codes.Internal, "Internal error.")),
			want: "Secret Manager failed (Internal: Internal error.)",
		},
		{
			name:    "checksum",
			arrange: func(m *standin.SecretManager) { stored(m); m.Corrupt("docs-site/key", true) },
			want: "its checksum is wrong, so it was damaged on the way here or where it is stored: " +
				"try again, and if it stays so add it anew with `gcloud secrets versions add key --project=docs-site --data-file=-`",
		},
		{
			name:    "empty",
			arrange: func(m *standin.SecretManager) { m.Add("docs-site/key", "") },
			want:    "it is empty: add a version that is not with `gcloud secrets versions add key --project=docs-site --data-file=-`",
		},
		{
			name:    "nothing but space",
			arrange: func(m *standin.SecretManager) { m.Add("docs-site/key", " \r\n\n") },
			want:    "it is empty: add a version that is not with `gcloud secrets versions add key --project=docs-site --data-file=-`",
		},
		{
			name: "no project", arrange: stored, ref: "sm://key",
			want: "it has no project: set GOOGLE_CLOUD_PROJECT, or write sm://PROJECT/NAME",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newSecretManager(t)
			tt.arrange(m)
			if tt.ref == "" {
				tt.ref = "sm://docs-site/key"
			}
			var v secrets.Value
			_, err := secrets.Open(t.Context(), secrets.Options{EmulatorHost: m.Address(), ServiceAccount: tt.account},
				secrets.Want{Variable: "OPENAI_API_KEY", Ref: ref(t, tt.ref), Into: &v})
			if err == nil {
				t.Fatal("opened")
			}
			if diff := cmp.Diff("OPENAI_API_KEY: "+tt.ref+": "+tt.want, err.Error()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			wantSecret(t, v, "")
		})
	}
}

// TestOpenAllFaults has every secret that fails in the error, in the order in
// which they were asked for, and no other.
func TestOpenAllFaults(t *testing.T) {
	t.Parallel()
	m := newSecretManager(t)
	m.Add("docs-site/key", payload)
	m.Corrupt("docs-site/key", true)
	m.Add("docs-site/good", payload)
	m.Add("docs-site/empty", "\n")
	into := secrets.Literal("untouched")
	asked := false
	_, err := secrets.Open(t.Context(), secrets.Options{
		EmulatorHost:   m.Address(),
		ServiceAccount: func(context.Context) (string, error) { asked = true; return "", nil },
	},
		secrets.Want{Variable: "A", Ref: ref(t, "sm://docs-site/key"), Into: &into},
		secrets.Want{Variable: "B", Ref: ref(t, "sm://docs-site/good"), Into: &into},
		secrets.Want{Variable: "C", Ref: ref(t, "sm://docs-site/empty"), Into: &into},
		secrets.Want{Variable: "D", Ref: ref(t, payload), Into: &into},
		secrets.Want{Variable: "E", Ref: ref(t, "sm://docs-site/key"), Into: &into})
	if err == nil {
		t.Fatal("opened")
	}
	want := "A, E: sm://docs-site/key: its checksum is wrong, so it was damaged on the way here or where it is stored: " +
		"try again, and if it stays so add it anew with `gcloud secrets versions add key --project=docs-site --data-file=-`\n" +
		"C: sm://docs-site/empty: it is empty: add a version that is not with `gcloud secrets versions add empty --project=docs-site --data-file=-`"
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	wantSecret(t, into, "untouched")
	if asked {
		t.Error("the metadata server was asked though no permission is missing")
	}
}

// TestOpenUnreachable has a Secret Manager that is not there in several ways: the
// start ends in time, and the cause is not lost.
func TestOpenUnreachable(t *testing.T) {
	t.Parallel()
	const nobody = "127.0.0.1:1" // No other test is given that port.
	for _, tt := range []struct {
		name    string
		address string
		arrange func(context.Context, *standin.SecretManager)
		want    string
	}{
		{
			name: "nobody listens", address: nobody,
			want: "(Unavailable: connection error: desc = \"transport: Error while dialing: dial tcp ADDRESS: connect: connection refused\")",
		},
		{
			name:    "it says so",
			arrange: func(_ context.Context, m *standin.SecretManager) { m.SetDown(true) },
			want:    "(Unavailable: The service is currently unavailable.)",
		},
		{
			name: "over quota",
			arrange: func(_ context.Context, m *standin.SecretManager) {
				m.Fail("docs-site/key", status.Error(codes.ResourceExhausted, "Quota exceeded."))
			},
			want: "(ResourceExhausted: Quota exceeded.)",
		},
		{
			name:    "it hangs",
			arrange: func(_ context.Context, m *standin.SecretManager) { m.Hold() },
			want:    "(DeadlineExceeded: ...)",
		},
		{
			name: "it says so, then hangs",
			arrange: func(ctx context.Context, m *standin.SecretManager) {
				m.SetDown(true)
				go func() {
					if m.AwaitCalls(ctx, "docs-site/key", 1) == nil {
						m.Hold()
					}
				}()
			},
			want: "(Unavailable: The service is currently unavailable.)",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newSecretManager(t)
			if tt.arrange != nil {
				tt.arrange(t.Context(), m)
			}
			if tt.address == "" {
				tt.address = m.Address()
			}
			start := time.Now()
			_, err := secrets.Open(t.Context(), secrets.Options{EmulatorHost: tt.address, OpenTimeout: time.Second},
				secrets.Want{Variable: "KEY", Ref: ref(t, "sm://docs-site/key"), Into: new(secrets.Value)})
			if err == nil {
				t.Fatal("opened")
			}
			want := "KEY: sm://docs-site/key: Secret Manager does not answer " + tt.want +
				": look whether SECRET_MANAGER_EMULATOR_HOST=ADDRESS is right"
			got := strings.ReplaceAll(err.Error(), tt.address, "ADDRESS")
			// It depends on who notices first, and then says no more than the code.
			got = regexp.MustCompile(`\(DeadlineExceeded: .*\)`).ReplaceAllString(got, "(DeadlineExceeded: ...)")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v with a deadline of 1s", took)
			}
		})
	}
}

// TestOpenOutlivesAnOutage has a Secret Manager that comes back while Docent
// starts.
func TestOpenOutlivesAnOutage(t *testing.T) {
	t.Parallel()
	m := newSecretManager(t)
	m.Add("docs-site/key", payload)
	m.SetDown(true)
	go func() {
		if m.AwaitCalls(t.Context(), "docs-site/key", 2) == nil {
			m.SetDown(false)
		}
	}()
	v, _ := open(t, secrets.Options{EmulatorHost: m.Address()}, "sm://docs-site/key")
	wantSecret(t, v, payload)
}

func TestOpenInterrupted(t *testing.T) {
	t.Parallel()
	m := newSecretManager(t)
	m.Hold()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_ = m.AwaitCalls(ctx, "docs-site/key", 1)
		cancel()
	}()
	_, err := secrets.Open(ctx, secrets.Options{EmulatorHost: m.Address()},
		secrets.Want{Variable: "KEY", Ref: ref(t, "sm://docs-site/key"), Into: new(secrets.Value)})
	if err == nil {
		t.Fatal("opened")
	}
	want := "KEY: sm://docs-site/key: interrupted while Secret Manager was asked (Canceled: context canceled)"
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
