package address_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"docent/internal/address"

	"github.com/google/go-cmp/cmp"
)

// parse returns the networks of a list.
func parse(t *testing.T, list string) address.Proxies {
	t.Helper()
	var p address.Proxies
	if err := p.UnmarshalText([]byte(list)); err != nil {
		t.Fatalf("%s: %v", list, err)
	}
	return p
}

func written(p address.Proxies) []string {
	var all []string
	for _, network := range p {
		all = append(all, network.String())
	}
	return all
}

// The presets are spelled out: a network that is too wide lets visitors choose
// their address, and one that is missing makes them share one.
var (
	cloudRun        = []string{"169.254.0.0/16"}
	firebaseHosting = []string{
		"64.233.160.0/19", "66.102.0.0/20", "72.14.192.0/18", "74.125.0.0/16", "108.177.0.0/17", "142.250.0.0/15",
		"172.217.0.0/16", "172.253.0.0/16", "173.194.0.0/16", "192.178.0.0/15", "209.85.128.0/17", "216.58.192.0/19",
		"216.239.32.0/19", "2001:4860::/32", "2404:6800::/32", "2607:f8b0::/32", "2800:3f0::/32", "2a00:1450::/32",
		"2c0f:fb50::/32",
	}
)

func TestProxies_Parse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, list string
		want       []string
		faults     []string
	}{
		{"preset cloud-run", "cloud-run", cloudRun, nil},
		{"preset firebase-hosting", "firebase-hosting", firebaseHosting, nil},
		{"a mix with spaces", " cloud-run, 10.1.2.3/8 ,2001:db8::/32", []string{"169.254.0.0/16", "10.0.0.0/8", "2001:db8::/32"}, nil},
		{"every fault at once", "10.0.0.1,0.0.0.0/0,::/0,::ffff:10.0.0.0/104,load-balancer,", nil, []string{
			"entry 1 is an address, but must be a network: write 10.0.0.1/32",
			"entry 2 trusts everybody, which makes no address a visitor's: name the networks of your proxies",
			"entry 3 trusts everybody, which makes no address a visitor's: name the networks of your proxies",
			"entry 4 is IPv4-in-IPv6, which never matches: write it as IPv4",
			"entry 5 is neither a CIDR such as 10.0.0.0/8, nor cloud-run, nor firebase-hosting",
			"entry 6 is neither a CIDR such as 10.0.0.0/8, nor cloud-run, nor firebase-hosting",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var p address.Proxies
			err := p.UnmarshalText([]byte(tt.list))
			var faults []string
			if err != nil {
				faults = strings.Split(err.Error(), "\n")
			}
			if diff := cmp.Diff(tt.faults, faults); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.want, written(p)); diff != "" {
				t.Errorf("networks (-want +got):\n%s", diff)
			}
		})
	}
}

func TestProxies_FrontEnds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		trusted, addr string
		want          bool
	}{
		{"cloud-run", "66.102.1.1", true},
		{"cloud-run", "2001:4860::1", true},
		{"cloud-run", "192.0.2.1", false},
		{"cloud-run,firebase-hosting", "66.102.1.1", false},
		{"66.0.0.0/8", "66.102.1.1", false},
		{"66.102.0.0/24", "66.102.0.1", true}, // Only a part of that network is trusted.
	}
	for _, tt := range tests {
		if got := parse(t, tt.trusted).FrontEnds().Contains(netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("trusting %s, %s is an untrusted front end: %v, want %v", tt.trusted, tt.addr, got, tt.want)
		}
	}
}

func TestProxies_WithoutFirebaseHosting(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, list string
		want       []string
	}{
		{"preset alone", "firebase-hosting", nil},
		{"preset among others", "cloud-run,firebase-hosting,10.0.0.0/8", []string{"169.254.0.0/16", "10.0.0.0/8"}},
		{"network of the preset, written out", "cloud-run,66.102.0.0/20", []string{"169.254.0.0/16"}},
		{"network of the operator's own in the preset's", "66.102.0.0/24", []string{"66.102.0.0/24"}},
		{"wider network of the operator's own", "66.0.0.0/8", []string{"66.0.0.0/8"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			all := parse(t, tt.list)
			before := written(all)
			if diff := cmp.Diff(tt.want, written(all.WithoutFirebaseHosting())); diff != "" {
				t.Errorf("networks (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, written(all)); diff != "" {
				t.Errorf("the list itself changed (-before +after):\n%s", diff)
			}
		})
	}
}

func TestClient(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, trusted, peer string
		forwarded           []string
		want                string // "" where it cannot be told.
	}{
		{"no proxy", "", "192.0.2.1:4711", []string{"203.0.113.7"}, "192.0.2.1"},
		{"an untrusted peer", "10.0.0.0/8", "192.0.2.1:4711", []string{"203.0.113.7"}, "192.0.2.1"},
		{"behind a proxy", "10.0.0.0/8", "10.0.0.1:4711", []string{"192.0.2.1"}, "192.0.2.1"},
		{"a forged entry before it", "10.0.0.0/8", "10.0.0.1:4711", []string{"203.0.113.7, 192.0.2.1"}, "192.0.2.1"},
		{"a forged entry that names the proxy", "10.0.0.0/8", "10.0.0.1:4711", []string{"10.0.0.9, 192.0.2.1"}, "192.0.2.1"},
		{"behind two proxies", "10.0.0.0/8,firebase-hosting", "10.0.0.1:4711", []string{"192.0.2.1, 66.102.0.77"}, "192.0.2.1"},
		{"in repeated headers", "10.0.0.0/8", "10.0.0.1:4711", []string{"203.0.113.7", "192.0.2.1"}, "192.0.2.1"},
		{"IPv4-in-IPv6", "10.0.0.0/8", "10.0.0.1:4711", []string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		{"missing header", "10.0.0.0/8", "10.0.0.1:4711", nil, ""},
		{"garbage", "10.0.0.0/8", "10.0.0.1:4711", []string{"unknown"}, ""},
		{"garbage before a proxy", "10.0.0.0/8", "10.0.0.1:4711", []string{"192.0.2.1, garbage, 10.0.0.2"}, ""},
		{"proxies alone", "10.0.0.0/8", "10.0.0.1:4711", []string{"10.0.0.2"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var trusted address.Proxies
			if tt.trusted != "" {
				trusted = parse(t, tt.trusted)
			}
			r := httptest.NewRequest(http.MethodPost, "/", nil)
			r.RemoteAddr = tt.peer
			r.Header["X-Forwarded-For"] = tt.forwarded
			var got netip.Addr
			trusted.Client()(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = address.Of(r.Context()) })).ServeHTTP(httptest.NewRecorder(), r)
			var want netip.Addr
			if tt.want != "" {
				want = netip.MustParseAddr(tt.want)
			}
			if got != want {
				t.Errorf("the client is %v, want %v", got, want)
			}
		})
	}
}

// FuzzProxies looks for a list that is accepted and trusts everybody, or that
// reads differently when it is written again.
func FuzzProxies(f *testing.F) {
	f.Add("cloud-run,10.0.0.0/8")
	f.Add("::/0,0.0.0.0/0")
	f.Add("::ffff:0.0.0.0/96")
	f.Fuzz(func(t *testing.T, list string) {
		var p address.Proxies
		if p.UnmarshalText([]byte(list)) != nil {
			return
		}
		for _, network := range p {
			if network.Bits() == 0 || network.Addr().Is4In6() || network != network.Masked() {
				t.Errorf("%q trusts %v", list, network)
			}
		}
		if diff := cmp.Diff(written(p), written(parse(t, strings.Join(written(p), ",")))); diff != "" {
			t.Errorf("%q reads differently the second time:\n%s", list, diff)
		}
	})
}
