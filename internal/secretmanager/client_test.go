package secretmanager_test

import (
	"context"
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"docent/internal/secretmanager"
	"docent/internal/secrets"
	"docent/internal/standin"
)

// patience is the deadline of what should take milliseconds.
const patience = 20 * time.Second

// payload is a secret that must not show anywhere.
const payload = "sk-proj-Zm9vYmFy"

func newStandIn(t *testing.T) *standin.SecretManager {
	t.Helper()
	m, err := standin.NewSecretManager()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func newClient(t *testing.T, o secretmanager.Options) *secretmanager.Client {
	t.Helper()
	c, err := secretmanager.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func ref(t *testing.T, s string) secrets.Ref {
	t.Helper()
	var r secrets.Ref
	if err := r.UnmarshalText([]byte(s)); err != nil {
		t.Fatalf("%q %v", s, err)
	}
	return r
}

// TestOpen_NoCredentials has credentials that cannot be read.
func TestOpen_NoCredentials(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.json")
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", missing)
	c, err := secretmanager.Open(t.Context(), secretmanager.Options{})
	if err == nil {
		c.Close()
		t.Fatal("opened")
	}
	want := "cannot connect to Secret Manager: open MISSING: no such file or directory; " +
		"on your own machine, log in with `gcloud auth application-default login`"
	if diff := cmp.Diff(want, strings.ReplaceAll(err.Error(), missing, "MISSING")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestFetch shows which version a reference reads, and that its payload stays as
// it is stored.
func TestFetch(t *testing.T) {
	t.Parallel()
	m := newStandIn(t)
	m.Add("docs-site/key", "first")
	m.Add("docs-site/key", " second\r\n")
	m.Add("docs-site/empty", "")
	c := newClient(t, secretmanager.Options{EmulatorHost: m.Address()})
	for _, tt := range []struct{ name, ref, want string }{
		{"latest", "sm://docs-site/key", " second\r\n"},
		{"pinned", "sm://docs-site/key#1", "first"},
		{"empty", "sm://docs-site/empty", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := c.Fetch(t.Context(), ref(t, tt.ref))
			if got != tt.want || err != nil {
				t.Errorf("Fetch = %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestFetch_Faults(t *testing.T) {
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
		account func(context.Context) (string, error) // Default: it must not be asked for.
		laptop  bool                                  // There is nothing to ask for the account.
		ref     string                                // Default: sm://docs-site/key.
		want    string
	}{
		{
			name:    "no such secret",
			arrange: func(*standin.SecretManager) {},
			want: "the secret, or this version of it, does not exist " +
				"(NotFound: Secret [projects/docs-site/secrets/key] not found or has no versions.): " +
				"create it with `gcloud secrets create key --project=docs-site --replication-policy=automatic --data-file=-`, " +
				"or add a version with `gcloud secrets versions add key --project=docs-site --data-file=-`",
		},
		{
			name: "no such version", arrange: stored, ref: "sm://docs-site/key#2",
			want: "the secret, or this version of it, does not exist " +
				"(NotFound: Secret Version [projects/docs-site/secrets/key/versions/2] not found.): " +
				"create it with `gcloud secrets create key --project=docs-site --replication-policy=automatic --data-file=-`, " +
				"or add a version with `gcloud secrets versions add key --project=docs-site --data-file=-`",
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
			laptop:  true,
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
			want: "the Secret Manager API is not enabled in the project " +
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
			name: "pinned version disabled in other words", arrange: failing(status.Error(codes.FailedPrecondition, "It is DISABLED.")),
			ref: "sm://docs-site/key#1",
			want: "the version is disabled (FailedPrecondition: It is DISABLED.): " +
				"enable it with `gcloud secrets versions enable 1 --secret=key --project=docs-site`",
		},
		{
			name:    "pinned version destroyed",
			arrange: func(m *standin.SecretManager) { m.Destroy("docs-site/key", m.Add("docs-site/key", payload)) },
			ref:     "sm://docs-site/key#1",
			want: "the version is destroyed (FailedPrecondition: Secret Version [projects/docs-site/secrets/key/versions/1] is in DESTROYED state.): " +
				"add another version with `gcloud secrets versions add key --project=docs-site --data-file=-` and refer to that version",
		},
		{
			name:    "latest version destroyed",
			arrange: func(m *standin.SecretManager) { m.Destroy("docs-site/key", m.Add("docs-site/key", payload)) },
			want: "the version is destroyed (FailedPrecondition: Secret Version [projects/docs-site/secrets/key/versions/1] is in DESTROYED state.): " +
				"add another version with `gcloud secrets versions add key --project=docs-site --data-file=-`",
		},
		{
			name: "encryption key gone", arrange: failing(status.Error(codes.FailedPrecondition, "KMS key is not usable.")),
			want: "the version cannot be used (FailedPrecondition: KMS key is not usable.)",
		},
		{
			name: "unauthenticated", arrange: failing(status.Error(codes.Unauthenticated, "Request had invalid credentials.")),
			want: "the credentials are not accepted (Unauthenticated: Request had invalid credentials.): " +
				"on Google Cloud, check that the service account still exists and is enabled; " +
				"elsewhere, log in with `gcloud auth application-default login`",
		},
		{
			name: "internal", arrange: failing(status.Error(codes.Internal, "Internal error.")),
			want: "Secret Manager failed (Internal: Internal error.)",
		},
		{
			name:    "checksum",
			arrange: func(m *standin.SecretManager) { stored(m); m.Corrupt("docs-site/key", true) },
			want: "its checksum is wrong, so it was damaged in storage or on the way here: " +
				"try again, and if that does not help, add it again with `gcloud secrets versions add key --project=docs-site --data-file=-`",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newStandIn(t)
			tt.arrange(m)
			if tt.ref == "" {
				tt.ref = "sm://docs-site/key"
			}
			if tt.account == nil && !tt.laptop {
				tt.account = func(context.Context) (string, error) {
					t.Error("the metadata server was asked though no permission is missing")
					return account, nil
				}
			}
			c := newClient(t, secretmanager.Options{EmulatorHost: m.Address(), ServiceAccount: tt.account})
			got, err := c.Fetch(t.Context(), ref(t, tt.ref))
			if err == nil {
				t.Fatal("fetched")
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if got != "" {
				t.Errorf("there is a payload with the error: %q", got)
			}
		})
	}
}

// TestFetch_AccountAfterDeadline has the permission be denied when the call's
// deadline has nearly passed: there is still time to ask for the account.
func TestFetch_AccountAfterDeadline(t *testing.T) {
	t.Parallel()
	m := newStandIn(t)
	m.Deny("docs-site/key")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	c := newClient(t, secretmanager.Options{EmulatorHost: m.Address(), ServiceAccount: func(asking context.Context) (string, error) {
		<-ctx.Done()
		return "docent@docs-site.iam.gserviceaccount.com", asking.Err()
	}})
	_, err := c.Fetch(ctx, ref(t, "sm://docs-site/key"))
	if err == nil || !strings.HasPrefix(err.Error(), "docent@docs-site.iam.gserviceaccount.com may not read it") {
		t.Errorf("error %v, want one that names the account", err)
	}
}

// TestFetch_CanceledWhileAskingForAccount has the caller leave while the metadata
// server hangs, as at the end of the process.
func TestFetch_CanceledWhileAskingForAccount(t *testing.T) {
	t.Parallel()
	m := newStandIn(t)
	m.Deny("docs-site/key")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var reason error
	c := newClient(t, secretmanager.Options{EmulatorHost: m.Address(), ServiceAccount: func(asking context.Context) (string, error) {
		cancel()
		<-asking.Done()
		reason = asking.Err()
		return "", reason
	}})
	_, err := c.Fetch(ctx, ref(t, "sm://docs-site/key"))
	if err == nil || !errors.Is(reason, context.Canceled) {
		t.Errorf("error %v; the question for the account ended by %v, want %v", err, reason, context.Canceled)
	}
}

// TestFetch_Unavailable has a Secret Manager that is down in several ways: the call
// ends with its context, and the cause is not lost.
func TestFetch_Unavailable(t *testing.T) {
	t.Parallel()
	const (
		nowhere   = "127.0.0.1:1" // No listener of another test is given that port.
		checkHost = ": check that SECRET_MANAGER_EMULATOR_HOST=ADDRESS is right"
	)
	for _, tt := range []struct {
		name    string
		address string
		arrange func(context.Context, *standin.SecretManager)
		want    string
	}{
		{
			name: "connection refused", address: nowhere,
			want: "Secret Manager does not answer (Unavailable: connection error: " +
				"desc = \"transport: Error while dialing: dial tcp ADDRESS: connect: connection refused\")" + checkHost,
		},
		{
			name:    "unavailable",
			arrange: func(_ context.Context, m *standin.SecretManager) { m.SetDown(true) },
			want:    "Secret Manager does not answer (Unavailable: The service is currently unavailable.)" + checkHost,
		},
		{
			name: "over quota",
			arrange: func(_ context.Context, m *standin.SecretManager) {
				m.Fail("docs-site/key", status.Error(codes.ResourceExhausted, "Quota exceeded."))
			},
			want: "Secret Manager's quota is used up (ResourceExhausted: Quota exceeded.): " +
				"raise it at https://console.cloud.google.com/iam-admin/quotas?project=docs-site",
		},
		{
			name:    "hangs",
			arrange: func(_ context.Context, m *standin.SecretManager) { m.Hold() },
			want:    "Secret Manager does not answer (DeadlineExceeded: ...)" + checkHost,
		},
		{
			name: "unavailable, then hangs",
			arrange: func(ctx context.Context, m *standin.SecretManager) {
				m.SetDown(true)
				go func() {
					if m.AwaitCalls(ctx, "docs-site/key", 1) == nil {
						m.Hold()
					}
				}()
			},
			want: "Secret Manager does not answer (Unavailable: The service is currently unavailable.)" + checkHost,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newStandIn(t)
			if tt.arrange != nil {
				tt.arrange(t.Context(), m)
			}
			if tt.address == "" {
				tt.address = m.Address()
			}
			c := newClient(t, secretmanager.Options{EmulatorHost: tt.address})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			_, err := c.Fetch(ctx, ref(t, "sm://docs-site/key"))
			if err == nil {
				t.Fatal("fetched")
			}
			got := strings.ReplaceAll(err.Error(), tt.address, "ADDRESS")
			// The text depends on which side notices first. It adds nothing to the code.
			got = regexp.MustCompile(`\(DeadlineExceeded: .*\)`).ReplaceAllString(got, "(DeadlineExceeded: ...)")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v with a deadline of 1s", took)
			}
		})
	}
}

// TestFetch_ShortOutage has a Secret Manager that answers again during the call.
func TestFetch_ShortOutage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		failure error
	}{
		{"unavailable", status.Error(codes.Unavailable, "The service is currently unavailable.")},
		{"over quota", status.Error(codes.ResourceExhausted, "Quota exceeded.")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newStandIn(t)
			m.Add("docs-site/key", payload)
			m.Fail("docs-site/key", tt.failure)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			go func() {
				if m.AwaitCalls(ctx, "docs-site/key", 2) == nil {
					m.Fail("docs-site/key", nil)
				}
			}()
			c := newClient(t, secretmanager.Options{EmulatorHost: m.Address()})
			if got, err := c.Fetch(ctx, ref(t, "sm://docs-site/key")); got != payload || err != nil {
				t.Errorf("Fetch = %q, %v", got, err)
			}
		})
	}
}

func TestFetch_Interrupted(t *testing.T) {
	t.Parallel()
	m := newStandIn(t)
	m.Hold()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() {
		_ = m.AwaitCalls(ctx, "docs-site/key", 1)
		cancel()
	}()
	c := newClient(t, secretmanager.Options{EmulatorHost: m.Address()})
	_, err := c.Fetch(ctx, ref(t, "sm://docs-site/key"))
	if err == nil {
		t.Fatal("fetched")
	}
	want := "interrupted while waiting for Secret Manager (Canceled: context canceled)"
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestReplace(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, ref, want string }{
		{"latest", "sm://docs-site/key", "add another version with `gcloud secrets versions add key --project=docs-site --data-file=-`"},
		{"pinned", "sm://docs-site/key#1", "add another version with `gcloud secrets versions add key --project=docs-site --data-file=-` and refer to that version"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, secretmanager.Replace(ref(t, tt.ref))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
