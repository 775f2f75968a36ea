package app_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"docent/internal/app"
	"docent/internal/firestore"
	"docent/internal/ratelimit"
	"docent/internal/visitor"
)

const identityKey = "identity-key-for-tests-only-32-bytes-or-more"

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// documents returns the IDs of the documents that are created by what counts in a
// store.
func documents(t *testing.T, keys app.Keys, count func(s ratelimit.Store) error) (written []string) {
	t.Helper()
	client, err := firestore.Open(t.Context(), firestore.Options{
		Project: "p", Database: "(default)", Emulator: "127.0.0.1:1",
		DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(
			func(_ context.Context, _ string, req, reply any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption) error {
				commit, isCommit := req.(*firestorepb.CommitRequest)
				answer, ok := reply.(*firestorepb.CommitResponse)
				if !isCommit || !ok {
					return fmt.Errorf("unexpected %T", req)
				}
				written = append(written, path.Base(commit.GetWrites()[0].GetUpdate().GetName()))
				answer.WriteResults = []*firestorepb.WriteResult{{UpdateTime: timestamppb.New(noon)}}
				return nil
			})},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	store, err := client.Buckets("rate_limits", keys.Buckets)
	if err != nil {
		t.Fatal(err)
	}
	if err := count(store); err != nil {
		t.Fatal(err)
	}
	return written
}

// minute returns the document of an address in the minute of noon, and day those of
// an address, its /48 if it is IPv6, and the site in that day.
func minute(t *testing.T, keys app.Keys, addr string) string {
	t.Helper()
	return documents(t, keys, func(s ratelimit.Store) error {
		b := ratelimit.Bucket{Name: "per-ip", Key: ratelimit.KeyOf(netip.MustParseAddr(addr)), Window: ratelimit.WindowOf(noon, time.Minute)}
		_, err := s.Grant(t.Context(), b, ratelimit.Ask{N: 1, Limit: 5})
		return err
	})[0]
}

func day(t *testing.T, keys app.Keys, addr string) []string {
	t.Helper()
	return documents(t, keys, func(s ratelimit.Store) error {
		d := ratelimit.NewDay(ratelimit.DayOptions{
			PerAddress: 100, Site: 2000, Store: s, Deny: true, StoreTimeout: time.Minute,
			Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return noon },
		})
		_, err := d.Take(t.Context(), ratelimit.KeyOf(netip.MustParseAddr(addr)))
		return err
	})
}

// What browsers and the store keep and what running instances count must never
// change: a difference here forgets every visitor or every conversation, or lets
// every address through twice in the minute, or the day, of a deployment.
func TestKeys_FixedVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		Cookie, Visitor, Session, Threads, SafetyID, IPv4, IPv6 string
		Day4, Day6                                              []string
	}
	tests := []struct {
		name                string
		identityKey, apiKey string
		undated             string // A cookie of the first format.
		want                vector
	}{
		{
			"identity key", identityKey, "sk-test", "V.Zesrzht8ILp9cTJiPqr1w9m00PpHzoU-YFXAG9P73mE",
			vector{
				Cookie:   "vc_V.1795521600.1798113600.yiBe-LWZMXJtDfSMoKsAcv-3glctpLzWrIM9_CCXkfU",
				Visitor:  "vt_V.1795521600.1798113600.w7J33lqHTeUIkIQMaVNAXNG8BZNPQ0B4KlWDnS64U0U",
				Session:  "ds_V.1795521600.1795522200.5NRx-5xNKFhgJ75JaLDrB55oepUmnnADf1naHjMR5SQ",
				Threads:  "9416c2a58278cd380e5fe963e1f262e3aabf43f20af6bcf0867015e5b94d0afc",
				SafetyID: "128ce89489848542a5ff96a49ebe6d34b01bfc65ac60dfecb5516d35fb428099",
				IPv4:     "989625c2b784fb6a47f8f83a93fc1676ddc7ac4d9e9c3d6bbe026ce573c6ade2",
				IPv6:     "7e450b161e5051cba439f1289630c53d85119ffed5c5e14b1750be1194b34344",
				Day4: []string{
					"3d8ff002d682a096c9b8765e3e254907b6f32f27826a36a321537dd6a16bf34d",
					"a493cb02d9f92ccf5d0f62e764832a698fc3765fa49b7e67bc795c48583283dc",
				},
				Day6: []string{
					"c2e597a9dafc7561898b0b585a5c3eae839df7670be17b6f31d4ea1fd37ae855",
					"af474360c022b8b68a0a5ceea654edb5d04ec842bf7afe1663f7725aaa2f1e39",
					"a493cb02d9f92ccf5d0f62e764832a698fc3765fa49b7e67bc795c48583283dc",
				},
			},
		},
		{
			"derived from the API key", "", "sk-test", "V.ibQQtXcL1Ed87QvvY4RUWFyw7wU7Npt6AuHRflJRwAU",
			vector{
				Cookie:   "vc_V.1795521600.1798113600.kf66aCRBKqvA49fiCOoSjB3vXniYtom3Zgg8A6tsoaE",
				Visitor:  "vt_V.1795521600.1798113600.SfKZ8487af-JBCRM2YxgYyyC0asm6NtfKqL8BmozOow",
				Session:  "ds_V.1795521600.1795522200.ZCQ2yNddELeYtCMpX1qv88kFc2HA0VYnPC0KlLNMwE4",
				Threads:  "5a249d62f19b64cb911a71a29bed1811f4d0796312cea1dbb80133ad98e25d5e",
				SafetyID: "596ee69a9a968517c52d07fd3e0b0abdc4fc1500adecc415d4f24750c08b8447",
				IPv4:     "740d5d242104ba436740f216664a8a0ee93b8e63da0e40166ab20bb4f6f26b89",
				IPv6:     "7cba391b3a0c2d246bffc615adbc21164f2e589b18876d70aaea6a8b61f06007",
				Day4: []string{
					"8a30c6099043e16f054e954d2327500d18d36470da338e2e9c5243c882a11bae",
					"e28882c97624d3f48af2fc9e1c1a82e715c6e7ec4a673d15e4476ed4d16b3fc3",
				},
				Day6: []string{
					"2fa8f663c0e4bd208f7dc15495a44dded284f0cae1fe15c44381f3b023517c9d",
					"da33b6fc4fbe1f22d82a6c3c6a305bed9f9e704a22b88a8e68d2e48ba3cf9f15",
					"e28882c97624d3f48af2fc9e1c1a82e715c6e7ec4a673d15e4476ed4d16b3fc3",
				},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			keys, err := app.DeriveKeys(tt.identityKey, tt.apiKey)
			if err != nil {
				t.Fatal(err)
			}
			s := visitor.NewSigner(keys.Visitors, "/", func() time.Time { return noon })
			r := httptest.NewRequest(http.MethodPost, "/", nil)
			r.Header.Set("Origin", "https://docs.example.com")
			session, _ := s.Session("V", 10*time.Minute)
			owner := hmac.New(sha256.New, keys.Threads)
			owner.Write([]byte("V"))
			got := vector{
				Cookie:   s.Cookie(r, "V").Value,
				Visitor:  s.Token(r, "V"),
				Session:  session,
				Threads:  hex.EncodeToString(owner.Sum(nil)),
				SafetyID: keys.SafetyID("V"),
				IPv4:     minute(t, keys, "192.0.2.1"),
				IPv6:     minute(t, keys, "2001:db8:1:2:3:4:5:6"),
				Day4:     day(t, keys, "192.0.2.1"),
				Day6:     day(t, keys, "2001:db8:1:2:3:4:5:6"),
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			r.Header.Set("Cookie", visitor.CookieName+"="+tt.undated)
			if id := s.ID(r, ""); id != "V" {
				t.Errorf("the cookie of the first format is for %q, want V", id)
			}
		})
	}
}

func TestDeriveKeys_IdentityKeyLength(t *testing.T) {
	t.Parallel()
	if _, err := app.DeriveKeys(strings.Repeat("k", 32), ""); err != nil {
		t.Errorf("32 bytes: %v", err)
	}
	for _, n := range []int{1, 8, 31} {
		if _, err := app.DeriveKeys(strings.Repeat("k", n), "sk-test"); err == nil {
			t.Errorf("an identity key of %d bytes was accepted", n)
		}
	}
}
