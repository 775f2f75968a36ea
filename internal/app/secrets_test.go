package app_test

import (
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"

	"docent/internal/app"
	"docent/internal/config"
	"docent/internal/secrets"
	"docent/internal/standin"
)

// want returns a secret to open, and where its value goes.
func want(t *testing.T, ref string) (secrets.Want, *secrets.Value) {
	t.Helper()
	w := secrets.Want{Variable: "KEY", Into: &secrets.Value{}}
	if err := w.Ref.UnmarshalText([]byte(ref)); err != nil {
		t.Fatal(err)
	}
	return w, w.Into
}

// TestOpenSecrets_Literal has credentials that cannot be read: a start without
// references needs none.
func TestOpenSecrets_Literal(t *testing.T) {
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/credentials.json")
	w, v := want(t, "sk-literal")
	source, err := app.OpenSecrets(t.Context(), config.Config{}, slog.New(slog.DiscardHandler), w)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	if got := v.Get(); got != "sk-literal" {
		t.Errorf("got %q", got)
	}

	w, _ = want(t, "sm://docs-site/key")
	if source, err := app.OpenSecrets(t.Context(), config.Config{}, slog.New(slog.DiscardHandler), w); err == nil {
		source.Close()
		t.Error("a reference was opened without credentials")
	}
}

// TestOpenSecrets_Reference reads from a stand-in for Secret Manager. What is wrong
// with a stored secret is said with the command that replaces it.
func TestOpenSecrets_Reference(t *testing.T) {
	t.Parallel()
	m, err := standin.NewSecretManager()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	m.Add("docs-site/key", "sk-stored\n")
	c := config.Config{SecretManagerEmulator: m.Address()}
	w, v := want(t, "sm://docs-site/key")
	source, err := app.OpenSecrets(t.Context(), c, slog.New(slog.DiscardHandler), w)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	if got := v.Get(); got != "sk-stored" {
		t.Errorf("got %q", got)
	}

	m.Add("docs-site/key", "\n")
	source, err = app.OpenSecrets(t.Context(), c, slog.New(slog.DiscardHandler), w)
	if err == nil {
		source.Close()
		t.Fatal("an empty secret was opened")
	}
	if diff := cmp.Diff("KEY: sm://docs-site/key: it is empty: add another version with "+
		"`gcloud secrets versions add key --project=docs-site --data-file=-`", err.Error()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
