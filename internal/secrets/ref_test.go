package secrets_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caarlos0/env/v11"
	"github.com/google/go-cmp/cmp"

	"docent/internal/secrets"
)

// shape is everything that a reference says about itself.
type shape struct {
	String               string
	Literal              string
	Parts                [3]string // Project, name, version.
	Zero, Pinned         bool
	NeedsProject, Secret bool
}

func shapeOf(r secrets.Ref) shape {
	literal, secret := r.Literal()
	return shape{
		String: r.String(), Literal: literal, Secret: secret, Parts: [3]string{r.Project(), r.Name(), r.Version()},
		Zero: r.IsZero(), Pinned: r.Pinned(), NeedsProject: r.NeedsProject(),
	}
}

func TestRef(t *testing.T) {
	t.Parallel()
	longest := "sm://" + strings.Repeat("n", 255)
	for _, tt := range []struct {
		name, in string
		want     shape
	}{
		{"not set", "", shape{Zero: true}},
		{"literal", payload, shape{String: "[redacted]", Literal: payload, Secret: true, Pinned: true}},
		{"literal with newlines", payload + "\r\n\n", shape{String: "[redacted]", Literal: payload, Secret: true, Pinned: true}},
		{"literal with other space", " a b ", shape{String: "[redacted]", Literal: " a b ", Secret: true, Pinned: true}},
		{"literal with a scheme inside", "a sm://b", shape{String: "[redacted]", Literal: "a sm://b", Secret: true, Pinned: true}},
		{"name", "sm://key", shape{String: "sm://key", NeedsProject: true, Parts: [3]string{"", "key", ""}}},
		{"name with all that may be in one", "sm://A-z_09", shape{String: "sm://A-z_09", NeedsProject: true, Parts: [3]string{"", "A-z_09", ""}}},
		{"longest name", longest, shape{String: longest, NeedsProject: true, Parts: [3]string{"", longest[len("sm://"):], ""}}},
		{"name and version", "sm://key#7", shape{String: "sm://key#7", NeedsProject: true, Pinned: true, Parts: [3]string{"", "key", "7"}}},
		{"name and latest", "sm://key#latest", shape{String: "sm://key", NeedsProject: true, Parts: [3]string{"", "key", ""}}},
		{"project", "sm://docs-site/key", shape{String: "sm://docs-site/key", Parts: [3]string{"docs-site", "key", ""}}},
		{"project and version", "sm://docs-site/key#12", shape{String: "sm://docs-site/key#12", Pinned: true, Parts: [3]string{"docs-site", "key", "12"}}},
		{"project and latest", "sm://docs-site/key#latest", shape{String: "sm://docs-site/key", Parts: [3]string{"docs-site", "key", ""}}},
		{"project's number", "sm://123456789/key", shape{String: "sm://123456789/key", Parts: [3]string{"123456789", "key", ""}}},
		{"project of a domain", "sm://example.com:docs-site/key", shape{String: "sm://example.com:docs-site/key", Parts: [3]string{"example.com:docs-site", "key", ""}}},
		{"space around", " sm://key#7\n", shape{String: "sm://key#7", NeedsProject: true, Pinned: true, Parts: [3]string{"", "key", "7"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, shapeOf(ref(t, tt.in))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// The errors for bad references.
const (
	saysBlank   = "must not be blank"
	saysScheme  = "must be written sm://NAME or sm://PROJECT/NAME if it is meant as a secret reference"
	saysProject = "must be sm://PROJECT/NAME with a project's ID (lowercase letters, digits and hyphens, a letter first) or its number"
	saysName    = "must be sm://NAME or sm://PROJECT/NAME with a name of 1 to 255 letters, digits, hyphens and underscores"
	saysVersion = "must end in #VERSION with a version's number, or in #latest, or in neither; a version's alias is not supported"
)

var badRefs = []struct{ name, in, want string }{
	{"blank", " \t", saysBlank},
	{"newlines only", "\r\n", saysBlank},
	{"one slash", "sm:/key", saysScheme},
	{"no slash", "sm:key", saysScheme},
	{"capitals", "SM://key", saysScheme},
	{"resource name", "projects/docs-site/secrets/key/versions/1", saysScheme},
	{"nothing", "sm://", saysName},
	{"version of nothing", "sm://#1", saysName},
	{"name with a dot", "sm://open.ai", saysName},
	{"name with a space", "sm://open ai", saysName},
	{"name too long", "sm://" + strings.Repeat("n", 256), saysName},
	{"project without name", "sm://docs-site/", saysName},
	{"path too long", "sm://docs-site/key/1", saysName},
	{"no project before the slash", "sm:///key", saysProject},
	{"project in capitals", "sm://Docs-Site/key", saysProject},
	{"project ends in a hyphen", "sm://docs-site-/key", saysProject},
	{"empty version", "sm://key#", saysVersion},
	{"version zero", "sm://key#0", saysVersion},
	{"negative version", "sm://key#-1", saysVersion},
	{"padded version", "sm://key#01", saysVersion},
	{"two versions", "sm://key#1#2", saysVersion},
	{"alias", "sm://key#production", saysVersion},
	{"latest in capitals", "sm://key#LATEST", saysVersion},
	{"a literal with a scheme", "sm://" + payload + "+/=", saysProject},
}

func TestRef_Faults(t *testing.T) {
	t.Parallel()
	for _, tt := range badRefs {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := ref(t, "sm://before")
			err := r.UnmarshalText([]byte(tt.in))
			if err == nil {
				t.Fatalf("%q was accepted as %s", tt.in, r)
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if diff := cmp.Diff("sm://before", r.String()); diff != "" {
				t.Errorf("a fault changed the reference: -want +got:\n%s", diff)
			}
		})
	}
}

func TestRef_WithProject(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, in, want string }{
		{"short", "sm://key", "sm://docs-site/key"},
		{"short and pinned", "sm://key#7", "sm://docs-site/key#7"},
		{"has one", "sm://other-project/key", "sm://other-project/key"},
		{"literal", payload, "[redacted]"},
		{"not set", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := ref(t, tt.in).WithProject("docs-site")
			if diff := cmp.Diff(tt.want, r.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if r.NeedsProject() {
				t.Error("a project is still needed")
			}
		})
	}
}

func TestRef_Equal(t *testing.T) {
	t.Parallel()
	different := []string{"", "a", "b", "sm://a", "sm://b", "sm://a#1", "sm://docs-site/a"}
	for i, a := range different {
		for j, b := range different {
			if got := ref(t, a).Equal(ref(t, b)); got != (i == j) {
				t.Errorf("%q equals %q: %t", a, b, got)
			}
		}
	}
}

// TestRef_ForHeader has a reference for a header differ in nothing but what Open
// accepts.
func TestRef_ForHeader(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", payload, "sm://key", "sm://docs-site/key#7"} {
		plain := ref(t, in)
		header := plain.ForHeader()
		if diff := cmp.Diff(shapeOf(plain), shapeOf(header)); diff != "" {
			t.Errorf("%q: -want +got:\n%s", in, diff)
		}
		if !plain.Equal(header) || !header.Equal(plain) {
			t.Errorf("%q is not equal to itself for a header", in)
		}
	}
}

// TestHeaderFault compares each answer with what net/http sends.
func TestHeaderFault(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, secret, want string
		never              bool
	}{
		{"key", payload, "", false},
		{"line feed", "a\nb", "a line break", true},
		{"carriage return", "a\rb", "a line break", true},
		{"line feed at the begin", "\na", "a line break", true},
		{"null byte", "a\x00b", "a control character", true},
		{"escape", "a\x1bb", "a control character", true},
		{"delete", "a\x7fb", "a control character", true},
		{"space and control character", "a b\x01", "a control character", true},
		{"space", "a b", "a space", false},
		{"tab", "a\tb", "a space", false},
		{"not ASCII", "a\u200b", "a character that is not printable ASCII", false},
		{"C1 control character", "a\u0085", "a character that is not printable ASCII", false},
		{"not UTF-8", "a\xff", "a character that is not printable ASCII", false},
		{"double quotes", `"a"`, "a quotation mark", false},
		{"single quotes", "'a'", "a quotation mark", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			found, never := secrets.HeaderFault(tt.secret)
			if found != tt.want || never != tt.never {
				t.Errorf("HeaderFault = %q, %t; want %q, %t", found, never, tt.want, tt.never)
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://openai.example", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+tt.secret)
			_, err = (&http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
				return nil, errDialled
			}}).RoundTrip(r)
			if refused := !errors.Is(err, errDialled); refused != tt.never {
				t.Errorf("net/http: %v", err)
			}
		})
	}
}

// errDialled says that net/http has accepted a request.
var errDialled = errors.New("dialled")

// TestRef_FromEnvironment parses references by the library that reads the
// configuration.
func TestRef_FromEnvironment(t *testing.T) {
	t.Parallel()
	var c struct {
		Key, Empty, Absent secrets.Ref
	}
	err := env.ParseWithOptions(&c, env.Options{
		UseFieldNameByDefault: true,
		Environment:           map[string]string{"KEY": "sm://key#7", "EMPTY": ""},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Key.String() != "sm://key#7" || !c.Empty.IsZero() || !c.Absent.IsZero() {
		t.Errorf("got %+v", c)
	}
}

type exported struct {
	Ref     secrets.Ref
	Value   secrets.Value
	Pointer *secrets.Value
}

type unexported struct {
	ref     secrets.Ref
	value   secrets.Value
	pointer *secrets.Ref
	any     any
}

// TestRedaction prints what holds a secret in every way that may reach a log.
func TestRedaction(t *testing.T) {
	t.Parallel()
	r, v := ref(t, payload), secrets.Literal(payload)
	fetched, source := open(t, options(newStore(payload)), "sm://docs-site/key")
	t.Cleanup(func() { source.Close() })
	holders := map[string]any{
		"reference":            r,
		"reference's pointer":  &r,
		"value":                v,
		"value's pointer":      &v,
		"fetched value":        fetched,
		"exported fields":      exported{r, v, &fetched},
		"exported, pointer":    &exported{r, fetched, &v},
		"unexported fields":    unexported{r, v, &r, fetched},
		"unexported, pointer":  &unexported{r, fetched, &r, &v},
		"nested":               struct{ inner, Outer any }{unexported{r, v, &r, r}, &exported{r, v, &v}},
		"slices":               []any{[]secrets.Ref{r}, []secrets.Value{v, fetched}, []*secrets.Ref{&r}},
		"maps":                 map[string]any{"ref": r, "value": map[string]secrets.Value{"": fetched}},
		"map's key":            map[secrets.Value]secrets.Ref{v: r},
		"wanted":               secrets.Want{Variable: "KEY", Ref: r, Into: &v},
		"wanted, in a pointer": &secrets.Want{Variable: "KEY", Ref: r, Into: &v},
	}
	for name, holder := range holders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, verb := range "vsqxXdtbcoOUeEfFgGpTw" {
				for _, flags := range []string{"", "+", "#", " ", "0", "-", "+#", "30.20"} {
					mustNotLeak(t, "%"+flags+string(verb), fmt.Sprintf("%"+flags+string(verb), holder))
				}
			}
			mustNotLeak(t, "Sprint", fmt.Sprint(holder, holder))
			mustNotLeak(t, "Errorf", fmt.Errorf("%v", holder).Error())
			if j, err := json.Marshal(holder); err == nil {
				mustNotLeak(t, "JSON", string(j))
			}
			if x, err := xml.Marshal(holder); err == nil {
				mustNotLeak(t, "XML", string(x))
			}
			var log bytes.Buffer
			slog.New(slog.NewTextHandler(&log, nil)).Info("text", "holder", holder, slog.Group("group", "holder", holder))
			slog.New(slog.NewJSONHandler(&log, nil)).Info("json", "holder", holder, slog.Group("group", "holder", holder))
			mustNotLeak(t, "slog", log.String())
		})
	}

	for name, holder := range map[string]any{"reference": r, "reference's pointer": &r, "value": v, "value's pointer": &v, "fetched": fetched} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if got := fmt.Sprintf(verb, holder); got != "[redacted]" {
				t.Errorf("%s of %s is %q", verb, name, got)
			}
		}
		if j, err := json.Marshal(holder); err != nil || string(j) != `"[redacted]"` {
			t.Errorf("JSON of %s is %s, %v", name, j, err)
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("", "holder", holder)
		if !strings.HasSuffix(log.String(), " holder=[redacted]\n") {
			t.Errorf("the log of %s is %s", name, log.String())
		}
	}
	for name, got := range map[string]string{"Ref": r.String(), "Value": v.String()} {
		if got != "[redacted]" {
			t.Errorf("%s.String() = %q", name, got)
		}
	}
}

// TestRef_PrintsReference shows that only secrets are redacted.
func TestRef_PrintsReference(t *testing.T) {
	t.Parallel()
	holder := struct{ Key secrets.Ref }{ref(t, "sm://docs-site/key#7")}
	j, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%v %+v %s", holder, holder, j)
	if diff := cmp.Diff(`{sm://docs-site/key#7} {Key:sm://docs-site/key#7} {"Key":"sm://docs-site/key#7"}`, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// mustNotLeak fails the test if a text has the payload in any form that fmt gives
// strings and bytes.
func mustNotLeak(t *testing.T, how, got string) {
	t.Helper()
	for _, form := range []string{
		payload, payload[:10], fmt.Sprintf("%x", payload), fmt.Sprintf("%X", payload), fmt.Sprintf("% x", payload),
		strings.Trim(fmt.Sprintf("%d", []byte(payload)), "[]"),
	} {
		if strings.Contains(got, form) {
			t.Errorf("%s leaks the secret: %s", how, got)
		}
	}
}

// FuzzRef checks what is true of every input: it is refused with one of the known
// errors, or parses to something that prints as its equal, and a literal never
// shows.
func FuzzRef(f *testing.F) {
	for _, tt := range badRefs {
		f.Add(tt.in)
	}
	for _, s := range []string{payload, payload + "\n", "sm://key", "sm://docs-site/key#7", "sm://key#latest", "sm://123/key"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		var r secrets.Ref
		if err := r.UnmarshalText([]byte(in)); err != nil {
			if !slices.Contains([]string{saysBlank, saysScheme, saysProject, saysName, saysVersion}, err.Error()) {
				t.Errorf("%q is refused with an unknown text: %v", in, err)
			}
			if !r.IsZero() {
				t.Errorf("%q is refused, and leaves %s", in, r)
			}
			return
		}
		literal, isLiteral := r.Literal()
		switch {
		case in == "":
			if !r.IsZero() || r.String() != "" {
				t.Errorf("nothing is %s", r)
			}
			return
		case isLiteral:
			if !strings.HasPrefix(in, literal) || strings.Trim(in[len(literal):], "\r\n") != "" || literal == "" {
				t.Errorf("%q became %q", in, literal)
			}
			if !r.Pinned() || r.NeedsProject() || r.String() != "[redacted]" {
				t.Errorf("%q is %+v", in, shapeOf(r))
			}
			return
		}
		if !strings.Contains(in, strings.TrimPrefix(r.String(), "sm://")) {
			t.Errorf("%q became %s", in, r)
		}
		for _, again := range []secrets.Ref{r, r.WithProject("docs-site")} {
			if parsed := ref(t, again.String()); !parsed.Equal(again) || parsed.Pinned() != r.Pinned() {
				t.Errorf("%q prints as %s, which is %s", in, again, parsed)
			}
		}
		if r.WithProject("docs-site").NeedsProject() {
			t.Errorf("%q needs a project though it has one", in)
		}
	})
}
