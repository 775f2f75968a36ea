package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The site's own instructions come after the fixed ones, from a file, too.
func TestInstructions(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "instructions.md")
	if err := os.WriteFile(file, []byte("Call the reader a gardener.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, setting := range map[string]string{"literal": "Call the reader a gardener.", "file": "@" + file} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := start(t, docs(t, "ASSISTANT_INSTRUCTIONS="+setting)...)
			newReader(t, d).say(t, d, "How do I install Orchard on Linux?")
			asked := d.openai.Responses()
			if len(asked) != 1 || !strings.HasSuffix(asked[0].Instructions, "Call the reader a gardener.") || len(asked[0].Instructions) < 500 {
				t.Errorf("asked: %+v", asked)
			}
		})
	}
}

func TestInstructions_BadFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"long":  strings.Repeat("ä", 8001),
		"latin": "Call the reader a g\xe4rtner.",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct{ name, file, want string }{
		{"missing", "nowhere", "no such file"},
		{"a folder", ".", "is a directory"},
		{"too long", "long", "more than 8000 characters"},
		{"not UTF-8", "latin", "UTF-8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, stderr := fails(t, docs(t, "PORT=127.0.0.1:0", "ALLOWED_ORIGINS="+testOrigin, "OPENAI_API_KEY="+testKey,
				"ASSISTANT_INSTRUCTIONS=@"+filepath.Join(dir, tt.file))...)
			if !strings.Contains(stderr, "ASSISTANT_INSTRUCTIONS: ") || !strings.Contains(stderr, tt.want) {
				t.Errorf("stderr: %s", stderr)
			}
		})
	}
}
