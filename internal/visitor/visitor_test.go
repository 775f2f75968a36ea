package visitor_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"docent/internal/visitor"
)

// FuzzID looks for a cookie that is trusted although it was not issued.
func FuzzID(f *testing.F) {
	s := visitor.NewSigner([]byte("a key for tests"))
	issued := s.Cookie(httptest.NewRequest(http.MethodPost, "/", nil), "ID").Value
	f.Add("__session=" + issued)
	f.Add("__session=ID.AAAA; __session=" + issued + "=")
	f.Add(`__session="ID."`)
	f.Fuzz(func(t *testing.T, cookies string) {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.Header.Set("Cookie", cookies)
		id := s.ID(r)
		if id == "" {
			t.Fatal("no ID")
		}
		r.Header.Set("Cookie", s.Cookie(r, id).String())
		if again := s.ID(r); again != id {
			t.Errorf("the cookie for %q is for %q", id, again)
		}
		if id == "ID" || len(id) >= 26 {
			return
		}
		t.Errorf("%q made the ID %q", cookies, id)
	})
}
