package secrets_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"docent/internal/secrets"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, ref, want string
		connects        int
	}{
		{"literal", payload, payload, 0},
		{"not set", "", "", 0},
		{"latest", "sm://docs-site/key", "second", 1},
		{"latest spelled out", "sm://docs-site/key#latest", "second", 1},
		{"pinned", "sm://docs-site/key#1", "first", 1},
		{"newline at the end", "sm://docs-site/newline", payload, 1},
		{"newlines from Windows", "sm://docs-site/newlines", "two words", 1},
		{"other space", "sm://docs-site/space", " inner\nand outer ", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStore("first", "second")
			s.Add("docs-site/newline", payload+"\n")
			s.Add("docs-site/newlines", "two words\r\n\r\n")
			s.Add("docs-site/space", " inner\nand outer \n")
			v, source := open(t, options(s), tt.ref)
			wantSecret(t, v, tt.want)
			if err := source.Close(); err != nil {
				t.Error(err)
			}
			wantSecret(t, v, tt.want)
			s.wantConnections(t, tt.connects)
			s.wantCalls(t, tt.connects)
		})
	}
}

// TestOpen_Literals opens three variables without a reference: the store must not
// be opened, since there may be no credentials for one.
func TestOpen_Literals(t *testing.T) {
	t.Parallel()
	var key, workflow, identity secrets.Value
	source, err := secrets.Open(t.Context(), secrets.Options{
		Connect: func(context.Context) (secrets.Store, error) {
			t.Error("the store was opened")
			return nil, errors.New("no credentials")
		},
	},
		secrets.Want{Variable: "OPENAI_API_KEY", Ref: ref(t, payload), Into: &key},
		secrets.Want{Variable: "CHATKIT_WORKFLOW_ID", Ref: ref(t, "wf_1"), Into: &workflow},
		secrets.Want{Variable: "IDENTITY_KEY", Ref: secrets.Ref{}, Into: &identity})
	if err != nil {
		t.Fatal(err)
	}
	wantSecret(t, key, payload)
	wantSecret(t, workflow, "wf_1")
	wantSecret(t, identity, "")
	if err := source.Close(); err != nil {
		t.Error(err)
	}
}

// TestOpen_NoConnection has the error name every variable that is a reference.
func TestOpen_NoConnection(t *testing.T) {
	t.Parallel()
	into := secrets.Literal("untouched")
	o := options(newStore())
	o.Connect = func(context.Context) (secrets.Store, error) { return nil, errors.New("no credentials") }
	source, err := secrets.Open(t.Context(), o,
		secrets.Want{Variable: "OPENAI_API_KEY", Ref: ref(t, payload), Into: &into},
		secrets.Want{Variable: "CHATKIT_WORKFLOW_ID", Ref: ref(t, "sm://docs-site/workflow"), Into: &into},
		secrets.Want{Variable: "IDENTITY_KEY", Ref: ref(t, "sm://docs-site/identity#1"), Into: &into})
	if diff := cmp.Diff("CHATKIT_WORKFLOW_ID, IDENTITY_KEY: no credentials", fault(t, source, err)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	wantSecret(t, into, "untouched")
}

// TestOpen_SharedVersion has one lookup serve all references to a version, at the
// start and later.
func TestOpen_SharedVersion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore("first")
		var a, b, pinned secrets.Value
		o := options(s)
		log, logged := newLog()
		o.Log = log
		source, err := secrets.Open(t.Context(), o,
			secrets.Want{Variable: "A", Ref: ref(t, "sm://docs-site/key"), Into: &a},
			secrets.Want{Variable: "B", Ref: ref(t, "sm://key#latest").WithProject("docs-site"), Into: &b},
			secrets.Want{Variable: "PINNED", Ref: ref(t, "sm://docs-site/key#1"), Into: &pinned})
		if err != nil {
			t.Fatal(err)
		}
		defer source.Close()
		s.wantCalls(t, 2)

		s.Add("docs-site/key", "second")
		time.Sleep(5 * time.Minute)
		wantSecret(t, a, "first")
		synctest.Wait()
		if diff := cmp.Diff([]string{`level=INFO msg="secret changed" secret=sm://docs-site/key variables="[A B]"`}, logged.take()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		wantSecret(t, a, "second")
		wantSecret(t, b, "second")
		wantSecret(t, pinned, "first")
		s.wantCalls(t, 3)
	})
}

// TestOpen_ForHeader has payloads that no HTTP header can carry stop the start if
// they are for a header, and only then.
func TestOpen_ForHeader(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, ref, want, fault string }{
		{"line break", "sm://docs-site/line", "", "KEY: sm://docs-site/line: " +
			"there is a line break in it, which no HTTP header can carry: replace sm://docs-site/line"},
		{"pinned", "sm://docs-site/line#1", "", "KEY: sm://docs-site/line#1: " +
			"there is a line break in it, which no HTTP header can carry: replace sm://docs-site/line#1"},
		{"control character", "sm://docs-site/null", "", "KEY: sm://docs-site/null: " +
			"there is a control character in it, which no HTTP header can carry: replace sm://docs-site/null"},
		{"newline at the end", "sm://docs-site/newline", payload, ""},
		{"space", "sm://docs-site/space", "Bearer " + payload, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStore()
			s.Add("docs-site/line", payload+"\nrest\n")
			s.Add("docs-site/null", payload+"\x00")
			s.Add("docs-site/newline", payload+"\r\n")
			s.Add("docs-site/space", "Bearer "+payload)
			var v secrets.Value
			source, err := secrets.Open(t.Context(), options(s), secrets.Want{Variable: "KEY", Ref: ref(t, tt.ref).ForHeader(), Into: &v})
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				defer source.Close()
			}
			if diff := cmp.Diff(tt.fault, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			wantSecret(t, v, tt.want)

			other, otherSource := open(t, options(s), tt.ref)
			defer otherSource.Close()
			if other.Get() == "" {
				t.Error("a secret that is not for a header is empty")
			}
		})
	}
}

// TestOpen_SharedForHeader has one lookup serve a header and another purpose. What
// no header can carry then fails both.
func TestOpen_SharedForHeader(t *testing.T) {
	t.Parallel()
	plain := ref(t, "sm://docs-site/key")
	for _, refs := range [][]secrets.Ref{{plain, plain.ForHeader()}, {plain.ForHeader(), plain}} {
		s := newStore(payload)
		var a, b secrets.Value
		wants := []secrets.Want{{Variable: "A", Ref: refs[0], Into: &a}, {Variable: "B", Ref: refs[1], Into: &b}}
		source, err := secrets.Open(t.Context(), options(s), wants...)
		if err != nil {
			t.Fatal(err)
		}
		source.Close()
		s.wantCalls(t, 1)

		s.Add("docs-site/key", payload+"\x00")
		source, err = secrets.Open(t.Context(), options(s), wants...)
		want := "A, B: sm://docs-site/key: there is a control character in it, which no HTTP header can carry: replace sm://docs-site/key"
		if diff := cmp.Diff(want, fault(t, source, err)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

// TestOpen_Parallel has three lookups of a second each take one second together.
func TestOpen_Parallel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		s.delay = time.Second
		var wants []secrets.Want
		for _, name := range []string{"a", "b", "c"} {
			s.Add("docs-site/"+name, payload)
			wants = append(wants, secrets.Want{Variable: name, Ref: ref(t, "sm://docs-site/"+name), Into: new(secrets.Value)})
		}
		start := time.Now()
		source, err := secrets.Open(t.Context(), options(s), wants...)
		if err != nil {
			t.Fatal(err)
		}
		defer source.Close()
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v, want 1s", took)
		}
	})
}

// TestOpen_UnusableSecret has faults that every store can have.
func TestOpen_UnusableSecret(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, stored, ref, want string
		noReplace               bool
	}{
		{name: "empty", stored: "", ref: "sm://docs-site/key", want: "it is empty: replace sm://docs-site/key"},
		{name: "empty, pinned", stored: "", ref: "sm://docs-site/key#1", want: "it is empty: replace sm://docs-site/key#1"},
		{name: "nothing but space", stored: " \r\n\n", ref: "sm://docs-site/key", want: "it is empty: replace sm://docs-site/key"},
		{name: "no advice", stored: "", ref: "sm://docs-site/key", noReplace: true, want: "it is empty"},
		{name: "lookup fails", stored: payload, ref: "sm://docs-site/other", want: "not found"},
		{name: "no project", stored: payload, ref: "sm://key", want: "it has no project: set GOOGLE_CLOUD_PROJECT, or write sm://PROJECT/NAME"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStore(tt.stored)
			o := options(s)
			if tt.noReplace {
				o.Replace = nil
			}
			var v secrets.Value
			source, err := secrets.Open(t.Context(), o, secrets.Want{Variable: "KEY", Ref: ref(t, tt.ref), Into: &v})
			if diff := cmp.Diff("KEY: "+tt.ref+": "+tt.want, fault(t, source, err)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			wantSecret(t, v, "")
			s.wantConnections(t, 1)
		})
	}
}

// TestOpen_AllFaults has the error list every secret that fails, in the order of
// the variables, and no other.
func TestOpen_AllFaults(t *testing.T) {
	t.Parallel()
	s := newStore("\n")
	s.Add("docs-site/good", payload)
	into := secrets.Literal("untouched")
	source, err := secrets.Open(t.Context(), options(s),
		secrets.Want{Variable: "A", Ref: ref(t, "sm://docs-site/key"), Into: &into},
		secrets.Want{Variable: "B", Ref: ref(t, "sm://docs-site/good"), Into: &into},
		secrets.Want{Variable: "C", Ref: ref(t, "sm://docs-site/missing"), Into: &into},
		secrets.Want{Variable: "D", Ref: ref(t, payload), Into: &into},
		secrets.Want{Variable: "E", Ref: ref(t, "sm://docs-site/key"), Into: &into})
	want := "A, E: sm://docs-site/key: it is empty: replace sm://docs-site/key\nC: sm://docs-site/missing: not found"
	if diff := cmp.Diff(want, fault(t, source, err)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	wantSecret(t, into, "untouched")
	s.wantConnections(t, 1)
}

// TestOpen_Deadline has a store that does not answer.
func TestOpen_Deadline(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		timeout, want time.Duration
	}{
		{"default", 0, 10 * time.Second},
		{"shorter", time.Second, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore(payload)
				s.Hold()
				o := options(s)
				o.OpenTimeout = tt.timeout
				start := time.Now()
				source, err := secrets.Open(t.Context(), o, secrets.Want{Variable: "KEY", Ref: ref(t, "sm://docs-site/key"), Into: new(secrets.Value)})
				if diff := cmp.Diff("KEY: sm://docs-site/key: hangs: context deadline exceeded", fault(t, source, err)); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				if took := time.Since(start); took != tt.want {
					t.Errorf("took %v, want %v", took, tt.want)
				}
				s.wantConnections(t, 1)
			})
		})
	}
}

func TestOpen_Interrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(payload)
		s.Hold()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		source, err := secrets.Open(ctx, options(s), secrets.Want{Variable: "KEY", Ref: ref(t, "sm://docs-site/key"), Into: new(secrets.Value)})
		if diff := cmp.Diff("KEY: sm://docs-site/key: hangs: context canceled", fault(t, source, err)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v, want 1s", took)
		}
		s.wantConnections(t, 1)
	})
}
