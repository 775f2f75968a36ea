package widget_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// types runs TypeScript's checker on a script in place of widget.js and returns the
// output.
func types(t *testing.T, script string) (string, error) {
	t.Helper()
	modules, err := filepath.Abs("node_modules")
	if err != nil {
		t.Fatal(err)
	}
	tsc := filepath.Join(modules, ".bin", "tsc")
	if _, err := os.Stat(tsc); err != nil {
		orSkip(t, "TypeScript is not installed: run `make deps`, which needs npm")
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

// orSkip skips a test because something is missing. In CI it fails the test.
func orSkip(t *testing.T, lacks string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(lacks)
	}
	t.Skip(lacks)
}

// ChatKit throws in the visitor's browser if it gets an unknown option. So the test
// checks every option against the types of ChatKit's package, where a change shows.
func TestTypes(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("widget.js")
	if err != nil {
		t.Fatal(err)
	}
	script := string(file)
	tests := []struct{ name, is, becomes, says string }{
		{"unchanged", "", "", ""},
		{"an unknown option", "startScreen:", "startScren:", "'startScren' does not exist in type 'ChatKitOptions'"},
		{"an invalid value of an option", "colorScheme: scheme()", `colorScheme: "auto"`, `'"auto"' is not assignable to type 'ColorScheme`},
		{"no domain key", "domainKey: docs.domain_key, ", "", "'domainKey' is missing in type"},
		{"a fetch that is not one", "fetch: request", "fetch: warn", "is not assignable to type"},
		{"an unknown method", ".setOptions(", ".setOption(", "'setOption' does not exist on type 'OpenAIChatKit'"},
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
