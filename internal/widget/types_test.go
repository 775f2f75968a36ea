package widget_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// types runs TypeScript's checker over a script in widget.js's place, and
// returns what it has to say.
func types(t *testing.T, script string) (string, error) {
	t.Helper()
	modules, err := filepath.Abs("node_modules")
	if err != nil {
		t.Fatal(err)
	}
	tsc := filepath.Join(modules, ".bin", "tsc")
	if _, err := os.Stat(tsc); err != nil {
		orSkip(t, "TypeScript is not installed: `make deps` does that, with npm")
	}
	config, err := os.ReadFile("tsconfig.json")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{"tsconfig.json": config, "widget.js": []byte(script)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), tsc)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// orSkip skips a test that lacks something, or fails it where CI must have it.
func orSkip(t *testing.T, lacks string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(lacks)
	}
	t.Skip(lacks)
}

// ChatKit throws on an option that it does not know, in the visitor's browser:
// so its own types have to know each, and its package is the place to see a change.
func TestTypes(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("widget.js")
	if err != nil {
		t.Fatal(err)
	}
	script := string(file)
	tests := []struct{ name, is, becomes, says string }{
		{"as it is", "", "", ""},
		{"an option that does not exist", "startScreen:", "startScren:", "'startScren' does not exist in type 'ChatKitOptions'"},
		{"a value that an option does not take", "colorScheme: scheme()", `colorScheme: "auto"`, `'"auto"' is not assignable to type 'ColorScheme`},
		{"a method that does not exist", ".setOptions(", ".setOption(", "'setOption' does not exist on type 'OpenAIChatKit'"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(script, tt.is) {
				t.Fatalf("widget.js has no %q to change", tt.is)
			}
			out, err := types(t, strings.Replace(script, tt.is, tt.becomes, 1))
			switch {
			case tt.says == "" && err != nil:
				t.Errorf("%v\n%s", err, out)
			case tt.says != "" && (err == nil || !strings.Contains(out, tt.says)):
				t.Errorf("%v\n%s\nwant %q", err, out, tt.says)
			}
		})
	}
}
