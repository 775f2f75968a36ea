package origin_test

import (
	"testing"

	"docent/internal/origin"
)

func TestVerified(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{
		"https://docs.example.com":     true,
		"http://docs.example.com":      true,
		"https://docs.example.com:443": true,
		"http://docs.example.com:80":   true,
		"https://docs.example.com:444": false,
		"http://docs.example.com:8080": false,
		"http://localhost":             false,
		"http://LOCALHOST":             false,
		"https://a.localhost":          true,
		"http://0.0.0.0":               false,
		"http://[::1]":                 false,
		"http://127.1.2.3":             false,
		"http://127.0.0.1.example.com": true,
		"https://printer.local":        false,
		"https://local":                true,
		"https://docs.example.local":   false,
	}
	for o, want := range tests {
		if got := origin.Verified(o); got != want {
			t.Errorf("%s: %t, want %t", o, got, want)
		}
	}
}
