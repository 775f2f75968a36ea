package origin_test

import (
	"net/url"
	"strings"
	"testing"

	"docent/internal/origin"

	"github.com/google/go-cmp/cmp"
)

func FuzzParse(f *testing.F) {
	for _, list := range []string{
		realList, "", ",", "*", "https://*", "http://*:*", "https://*.com", "https://xn--*.web.app", "https://bü*.example",
		"http://[::ffff:127.0.0.1]:*", "http://0x7f.1", "https://a@b", "https://*--a.web.app:8443", "http://[::1", "https://..",
	} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		l, err := origin.Parse(list)
		if err != nil {
			faults := unjoin(t, err)
			if most := strings.Count(list, ",") + 1; len(faults) == 0 || len(faults) > most {
				t.Errorf("%d faults in %d entries", len(faults), most)
			}
			if diff := cmp.Diff(origin.List{}, l, deep); diff != "" {
				t.Errorf("a list with a fault is not empty (-want +got):\n%s", diff)
			}
			return
		}
		if diff := cmp.Diff(l, mustParse(t, l.String()), deep); diff != "" {
			t.Errorf("Parse(String()) (-first +second):\n%s", diff)
		}
		for _, raw := range strings.Split(list, ",") {
			entry := strings.ToLower(strings.TrimSpace(raw))
			single := mustParse(t, entry)
			if diff := cmp.Diff(entry, single.String()); diff != "" {
				t.Errorf("an entry is not kept as it is (-entry +kept):\n%s", diff)
			}
			switch got, exact := l.Allows(entry), !strings.Contains(entry, "*"); {
			case got != exact:
				t.Errorf("%q allows itself: %t, want %t", entry, got, exact)
			case exact && !origin.WellFormed(entry):
				t.Errorf("exact entry %q is not well-formed", entry)
			}
		}
	})
}

func FuzzAllows(f *testing.F) {
	for _, q := range questions {
		f.Add(realList, q.origin, "a")
	}
	for _, entry := range []string{
		"https://*.example.com", "https://a--*.web.app", "https://*--a.web.app:8443", "http://*.example.com:8080", "http://[::1]:*",
	} {
		for _, star := range []string{"", "a", "a.b", "-", "xn", "a:1", "a@b", "1/", "65535", "080", "?", "\x00", "A"} {
			f.Add(entry, "", star)
		}
	}
	f.Fuzz(func(t *testing.T, list, free, star string) {
		l, err := origin.Parse(list)
		if err != nil {
			return
		}
		for _, entry := range strings.Split(l.String(), ",") {
			single := mustParse(t, entry)
			for _, o := range []string{
				free, strings.Replace(entry, "*", star, 1), strings.Replace(entry, ":*", star, 1), entry + star, star + entry,
			} {
				if !single.Allows(o) {
					continue
				}
				if !l.Allows(o) {
					t.Errorf("%q allows %q, but %q does not", entry, o, l)
				}
				compareWithURL(t, entry, o)
			}
		}
	})
}

// compareWithURL checks an allowed origin against the result of net/url.
func compareWithURL(t *testing.T, entry, o string) {
	t.Helper()
	if !origin.WellFormed(o) {
		t.Errorf("%q allows %q, which is not well-formed", entry, o)
	}
	got, err := url.Parse(o)
	if err != nil {
		t.Fatalf("%q allows %q, which is not a URL: %v", entry, o, err)
	}
	if diff := cmp.Diff(&url.URL{Scheme: got.Scheme, Host: strings.ToLower(got.Host)}, got); diff != "" {
		t.Errorf("%q allows %q, which is more than an origin (-want +got):\n%s", entry, o, diff)
	}
	base, anyPort := strings.CutSuffix(entry, ":*")
	want, err := url.Parse(base)
	if err != nil {
		t.Fatalf("entry %q is not a URL: %v", entry, err)
	}
	type parts struct {
		Scheme, Port string
		Labels       int
	}
	of := func(u *url.URL) parts { return parts{u.Scheme, u.Port(), strings.Count(u.Hostname(), ".")} }
	p := of(want)
	if anyPort {
		p.Port = got.Port()
	}
	if diff := cmp.Diff(p, of(got)); diff != "" {
		t.Errorf("%q allows %q (-entry +origin):\n%s", entry, o, diff)
	}
	if host, tail := got.Hostname(), want.Hostname(); !strings.HasSuffix(host, tail[strings.IndexByte(tail, '*')+1:]) {
		t.Errorf("%q allows the host %q", entry, host)
	}
}
