//go:build unix

package check_test

import (
	"context"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/firestore/apiv1/admin/adminpb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"docent/internal/check"
	"docent/internal/standin"
	"docent/internal/testkit/testfirestore"
	"docent/internal/testkit/testindex"
)

const (
	key      = "sk-test-key"
	workflow = "wf_test"
)

// environment is a valid one with a stand-in for OpenAI, changed by settings.
func environment(t *testing.T, settings ...string) map[string]string {
	t.Helper()
	return environmentOf(t, standin.NewOpenAI(key, workflow), settings...)
}

// environmentOf is environment with this stand-in.
func environmentOf(t *testing.T, openai *standin.OpenAI, settings ...string) map[string]string {
	t.Helper()
	base, stop, err := openai.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop() })
	env := map[string]string{
		"OPENAI_BASE_URL": base, "OPENAI_API_KEY": key, "CHATKIT_WORKFLOW_ID": workflow, "GOOGLE_CLOUD_PROJECT": "docs",
		"ALLOWED_ORIGINS": "https://docs.example.com", "RATE_LIMIT_STORE": "memory",
	}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		env[name] = value
	}
	return env
}

// result returns what a check says of one thing. Nothing else may have failed.
func result(t *testing.T, o check.Options, name string) check.Result {
	t.Helper()
	var found check.Result
	for _, c := range check.Run(t.Context(), o).Checks {
		switch {
		case c.Name == name:
			found = c
		case c.Status == check.Fail:
			t.Errorf("%s failed as well: %s %q", c.Name, c.Detail, c.Faults)
		}
	}
	return found
}

// adminAPI is the part of Firestore's admin API that lists fields.
type adminAPI struct {
	adminpb.UnimplementedFirestoreAdminServer

	answer func(parent string) ([]*adminpb.Field, error)
	asked  chan *adminpb.ListFieldsRequest
}

func (a *adminAPI) ListFields(_ context.Context, r *adminpb.ListFieldsRequest) (*adminpb.ListFieldsResponse, error) {
	select {
	case a.asked <- r:
	default: // A retry.
	}
	fields, err := a.answer(r.GetParent())
	return &adminpb.ListFieldsResponse{Fields: fields}, err
}

// listen serves the API and returns the options that find it.
func (a *adminAPI) listen(t *testing.T) []option.ClientOption {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	adminpb.RegisterFirestoreAdminServer(srv, a)
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	return []option.ClientOption{
		option.WithEndpoint(l.Addr().String()), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
}

// parent is the collection as the admin API names it.
const parent = "projects/PROJECT/databases/(default)/collectionGroups/rate_limits"

// field is a field with a TTL policy.
func field(name string, state adminpb.Field_TtlConfig_State) *adminpb.Field {
	return &adminpb.Field{Name: parent + "/fields/" + name, TtlConfig: &adminpb.Field_TtlConfig{State: state}}
}

func TestTTLPolicy(t *testing.T) {
	t.Parallel()
	const at = " --collection-group=rate_limits --database='(default)' --project=PROJECT"
	fields := func(f ...*adminpb.Field) func(string) ([]*adminpb.Field, error) {
		return func(string) ([]*adminpb.Field, error) { return f, nil }
	}
	fails := func(c codes.Code, message string) func(string) ([]*adminpb.Field, error) {
		return func(string) ([]*adminpb.Field, error) { return nil, status.Error(c, message) }
	}
	noPolicy := check.Result{Status: check.Fail, Detail: "no TTL policy on expires_at, so documents are kept and paid for forever: " +
		"gcloud firestore fields ttls update expires_at" + at + " --enable-ttl"}
	tests := []struct {
		name   string
		answer func(string) ([]*adminpb.Field, error)
		want   check.Result
	}{
		{"active", fields(field("expires_at", adminpb.Field_TtlConfig_ACTIVE)), check.Result{
			Status: check.OK, Detail: "documents are deleted within a day after expires_at",
		}},
		{"being created", fields(field("expires_at", adminpb.Field_TtlConfig_CREATING)), check.Result{
			Status: check.OK, Detail: "the policy on expires_at is being created, which takes some minutes",
		}},
		{"in need of repair", fields(field("expires_at", adminpb.Field_TtlConfig_NEEDS_REPAIR)), check.Result{
			Status: check.Fail, Detail: "the policy on expires_at is in state NEEDS_REPAIR: disable it and enable it again: " +
				"gcloud firestore fields ttls update expires_at" + at + " --disable-ttl && " +
				"gcloud firestore fields ttls update expires_at" + at + " --enable-ttl",
		}},
		{"none", fields(), noPolicy},
		{"on another field", fields(field("created_at", adminpb.Field_TtlConfig_ACTIVE)), noPolicy},
		{"no permission", fails(codes.PermissionDenied, "The caller does not have permission"), check.Result{
			Status: check.Skipped, Detail: "this account may not list the TTL policies (datastore.indexes.list, in roles/datastore.user): " +
				"check it yourself: gcloud firestore fields ttls list" + at,
		}},
		{"broken", fails(codes.InvalidArgument, "No."), check.Result{
			Status: check.Fail, Detail: "Firestore's admin API failed (rpc error: code = InvalidArgument desc = No.): " +
				"check it yourself: gcloud firestore fields ttls list" + at,
		}},
		{"unavailable", fails(codes.Unavailable, "The service is unavailable."), check.Result{
			Status: check.Fail, Detail: "Firestore's admin API does not answer: try again, or check it yourself: gcloud firestore fields ttls list" + at,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			project := testfirestore.Project()
			api := &adminAPI{answer: tt.answer, asked: make(chan *adminpb.ListFieldsRequest, 1)}
			env := environment(t, "RATE_LIMIT_STORE=firestore", "FIRESTORE_EMULATOR_HOST="+testfirestore.Address(t), "GOOGLE_CLOUD_PROJECT="+project)
			got := result(t, check.Options{Environment: env, Admin: api.listen(t)}, "firestore-ttl")
			got.Detail = strings.ReplaceAll(got.Detail, project, "PROJECT")
			tt.want.Name = "firestore-ttl"
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if r := <-api.asked; strings.ReplaceAll(r.GetParent(), project, "PROJECT") != parent || r.GetFilter() != "ttlConfig:*" {
				t.Errorf("asked for %v", r)
			}
		})
	}
}

func TestRun_HangingLibrary(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	hang := func(context.Context, string, any, any, *grpc.ClientConn, grpc.UnaryInvoker, ...grpc.CallOption) error {
		<-release // Whatever its context says.
		return nil
	}
	api := &adminAPI{answer: func(string) ([]*adminpb.Field, error) { return nil, nil }}
	got := result(t, check.Options{
		Environment: environment(t, "RATE_LIMIT_STORE=firestore", "FIRESTORE_EMULATOR_HOST="+testfirestore.Address(t), "GOOGLE_CLOUD_PROJECT="+testfirestore.Project()),
		Budget:      5 * time.Second,
		Admin:       append(api.listen(t), option.WithGRPCDialOption(grpc.WithUnaryInterceptor(hang))),
	}, "firestore-ttl")
	if want := (check.Result{Name: "firestore-ttl", Status: check.Fail, Detail: "no answer within 5s"}); !cmp.Equal(want, got) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// says is the whole of a result.
func says(r check.Result) string {
	return strings.Join(slices.Concat([]string{string(r.Status) + " " + r.Detail}, r.Faults, r.Notes), "\n")
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	const job = "CLOUD_RUN_JOB=docent-check"
	tests := []struct {
		name, list, where string
		want              string
	}{
		{"a site and its previews", "https://docs.example.com,https://*.docs.pages.dev,https://docs--*.web.app,https://*--docs.netlify.app", job, "ok"},
		{"wildcard elsewhere in a label", "https://docs-*.example.com", job, "ok"},
		{"previews below a name of one's own", "https://*.docs.web.app", job, "ok"},
		{"Firebase previews the wrong way round", "https://*--docs.web.app", job, "fail https://*--docs.web.app: web.app names previews SITE--*.web.app"},
		{"Netlify previews the wrong way round", "https://docs--*.netlify.app", job, "fail https://docs--*.netlify.app: netlify.app names previews *--SITE.netlify.app"},
		{"Cloudflare previews in one label", "https://docs--*.pages.dev", job, "fail https://docs--*.pages.dev: pages.dev names previews *.SITE.pages.dev"},
		{"http on a public host", "http://docs.example.com", "", "fail http://docs.example.com: anyone between"},
		{"http on a public address", "http://93.184.216.34:8080", "", "fail http://93.184.216.34:8080: anyone between"},
		{"http in a private network", "http://10.1.2.3,https://docs.example.com", "", "ok"},
		{"a name that the public has not", "https://docs.example.con", "", "note https://docs.example.con: no public name ends in \"con\""},
		{"a name of a private network", "http://docs.internal", "", "note http://docs.internal: no public name ends in \"internal\""},
		{"loopback in development", "http://localhost:*,http://[::1]:8080", "", "ok"},
		{"loopback in production", "http://app.localhost:*,https://docs.example.com", job, "note http://app.localhost:* allows pages"},
		{"loopback alone in production", "http://localhost:*", job, "fail ALLOWED_ORIGINS has only loopback hosts"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			env := environment(t, "ALLOWED_ORIGINS="+tt.list, tt.where)
			expect(t, result(t, check.Options{Environment: env}, "origins"), tt.want)
		})
	}
}

// expect compares a result with "fail" or "note" and how its first such text
// begins, or with "ok" for one without notes.
func expect(t *testing.T, got check.Result, want string) {
	t.Helper()
	kind, text, _ := strings.Cut(want, " ")
	switch kind {
	case "ok":
		if got.Status != check.OK || len(got.Notes) > 0 {
			t.Errorf("not ok, or with notes:\n%s", says(got))
		}
	case "note":
		if got.Status != check.OK || !slices.ContainsFunc(got.Notes, func(n string) bool { return strings.HasPrefix(n, text) }) {
			t.Errorf("not ok with the note %q:\n%s", text, says(got))
		}
	case "fail":
		if got.Status != check.Fail || !strings.HasPrefix(got.Detail, text) && !slices.ContainsFunc(got.Faults, func(f string) bool { return strings.HasPrefix(f, text) }) {
			t.Errorf("no failure %q:\n%s", text, says(got))
		}
	}
}

func TestTrustedProxies(t *testing.T) {
	t.Parallel()
	const job = "CLOUD_RUN_JOB=docent-check"
	tests := []struct{ name, list, where, want string }{
		{"default elsewhere", "", "", "note right if visitors connect to this process directly"},
		{"a proxy elsewhere", "10.0.0.0/8", "", "ok"},
		{"Cloud Run's elsewhere", "cloud-run", "", "note cloud-run is trusted, but this is not Cloud Run"},
		{"default on Cloud Run", "", job, "note behind a Firebase Hosting rewrite add firebase-hosting"},
		{"behind Hosting", "cloud-run,firebase-hosting", job, "note firebase-hosting is right only behind a Firebase Hosting rewrite"},
		{"Cloud Run's own forgotten", "firebase-hosting", job, "fail Cloud Run's own front end is not trusted"},
		{"Cloud Run's own within another", "169.254.0.0/15", job, "note behind a Firebase Hosting rewrite"},
		{"half of Cloud Run's own", "169.254.0.0/17", job, "fail Cloud Run's own front end is not trusted"},
		{"half the internet", "cloud-run,128.0.0.0/1", job, "fail 128.0.0.0/1 trusts a large part"},
		{"all of IPv6 that is in use", "cloud-run,2000::/3", job, "fail 2000::/3 trusts a large part"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			env := environment(t, "TRUSTED_PROXIES="+tt.list, tt.where)
			expect(t, result(t, check.Options{Environment: env}, "trusted-proxies"), tt.want)
		})
	}
}

func TestRun_Order(t *testing.T) {
	t.Parallel()
	for name, env := range map[string]map[string]string{"healthy": environment(t), "docs alone": environment(t, "CHATKIT_WORKFLOW_ID=", "DOCS_INDEX="+testindex.Write(t, testindex.Small()), "PUBLIC_URL=http://localhost"), "nothing set": {}, "interrupted": environment(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if name == "interrupted" {
				cancel()
			}
			report := check.Run(ctx, check.Options{Environment: maps.Clone(env)})
			var names []string
			for _, c := range report.Checks {
				names = append(names, c.Name)
				if c.Detail == "" {
					t.Errorf("%s says nothing", c.Name)
				}
			}
			want := strings.Fields("configuration origins trusted-proxies project OPENAI_API_KEY CHATKIT_WORKFLOW_ID IDENTITY_KEY firestore firestore-ttl openai")
			if name == "docs alone" {
				want = strings.Fields("configuration origins trusted-proxies backend domain-keys project OPENAI_API_KEY CHATKIT_WORKFLOW_ID IDENTITY_KEY " +
					"firestore firestore-ttl threads threads-ttl openai docs-index answer")
			}
			if diff := cmp.Diff(want, names); diff != "" {
				t.Errorf("checks (-want +got):\n%s", diff)
			}
			if report.OK() != (name == "healthy" || name == "docs alone") {
				t.Errorf("OK is %t: %s", report.OK(), report.Summary())
			}
		})
	}
}

func TestConfiguration_HTTP(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // No dependency is asked.
	env := environment(t, "OPENAI_BASE_URL=http://gateway.example.com/v1")
	expect(t, check.Run(ctx, check.Options{Environment: env}).Checks[0], "note OPENAI_BASE_URL is http")
}

func TestConfiguration_LimitAboveANetworksShare(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limit, ceiling string
		noted          bool
	}{
		{"150", "600", false},
		{"151", "600", true},
		{"1", "1", false},
		{"5", "16", true},
	} {
		env := environment(t, "RATE_LIMIT_PER_MINUTE="+tt.limit, "RATE_LIMIT_INSTANCE_PER_MINUTE="+tt.ceiling)
		got := result(t, check.Options{Environment: env}, "configuration")
		if noted := strings.Contains(strings.Join(got.Notes, " "), "above a quarter of RATE_LIMIT_INSTANCE_PER_MINUTE"); noted != tt.noted {
			t.Errorf("%s of %s: %+v, want noted = %v", tt.limit, tt.ceiling, got, tt.noted)
		}
	}
}
