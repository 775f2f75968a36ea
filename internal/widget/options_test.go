package widget_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"
)

// named returns what a pattern finds in a part of a file: the first group of
// each match, sorted.
func named(t *testing.T, path, from, to, pattern string) []string {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(file), from)
	part, _, found := strings.Cut(part, to)
	if !found {
		t.Fatalf("%s has nothing between %q and %q", path, from, to)
	}
	var names []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(part, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return names
}

// attribute returns the attribute that sets an option.
func attribute(option string) string {
	return "data-" + strings.ToLower(regexp.MustCompile(`[A-Z]`).ReplaceAllString(option, "-$0"))
}

func TestOptionsAreTheSameEverywhere(t *testing.T) {
	t.Parallel()
	options := named(t, "widget.js", "const OPTIONS = {", "\n  };", `(?m)^    (\w+): \[`)
	props := named(t, "../../examples/astro/src/components/ChatKitWidget.astro", "interface Props {", "\n}", `(?m)^  (\w+)\?: `)
	props = slices.DeleteFunc(props, func(name string) bool { return name == "src" })
	if diff := cmp.Diff(options, props); diff != "" {
		t.Errorf("props of the Astro component (-widget.js +props):\n%s", diff)
	}
	var attributes []string
	for _, option := range options {
		attributes = append(attributes, attribute(option))
	}
	slices.Sort(attributes)
	rows := named(t, "../../docs/embed.md", "\n## Options", "\n## ", "(?m)^\\| `(data-[a-z-]+)` \\|")
	if diff := cmp.Diff(attributes, rows); diff != "" {
		t.Errorf("docs/embed.md (-widget.js +table):\n%s", diff)
	}
}

// tags returns the attributes of the widget's tags in a page.
func tags(t *testing.T, page []byte) []map[string]string {
	t.Helper()
	root, err := html.Parse(strings.NewReader(string(page)))
	if err != nil {
		t.Fatal(err)
	}
	var found []map[string]string
	for n := range root.Descendants() {
		attributes := map[string]string{}
		for _, a := range n.Attr {
			attributes[a.Key] = a.Val
		}
		if n.Data == "script" && strings.HasSuffix(attributes["src"], "/widget.js") {
			found = append(found, attributes)
		}
	}
	return found
}

func TestAstroComponent(t *testing.T) {
	t.Parallel()
	const dist = "../../examples/astro/dist"
	if _, err := os.Stat(dist); err != nil {
		orSkip(t, "the Astro example is not built: `make deps` does that, with npm")
	}
	for _, path := range []string{"index.html", "configuration/index.html", "troubleshooting/index.html"} {
		page, err := os.ReadFile(filepath.Join(dist, path))
		if err != nil {
			t.Fatal(err)
		}
		found := tags(t, page)
		if len(found) != 1 {
			t.Fatalf("%s has %d tags of the widget", path, len(found))
		}
		tag := found[0]
		want := []string{
			"async", "data-accent", "data-disclaimer", "data-fallback-url", "data-greeting", "data-placeholder", "data-prompts", "data-shortcut",
			"data-title", "data-trigger", "src",
		}
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(tag))); diff != "" {
			t.Errorf("%s: attributes (-those that are set +got):\n%s", path, diff)
		}
		var prompts []any
		if err := json.Unmarshal([]byte(tag["data-prompts"]), &prompts); err != nil || len(prompts) != 2 {
			t.Errorf("%s: prompts %s: %v", path, tag["data-prompts"], err)
		}
		if tag["src"] != "/api/chatkit/widget.js" {
			t.Errorf("%s: the widget is expected at %s", path, tag["src"])
		}
	}
}

func TestPlainPages(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"index.html", "second.html"} {
		page, err := os.ReadFile(filepath.Join("../../examples/html", name))
		if err != nil {
			t.Fatal(err)
		}
		found := tags(t, page)
		if len(found) != 1 || !json.Valid([]byte(found[0]["data-prompts"])) {
			t.Fatalf("%s: tags %v", name, found)
		}
		docent := strings.TrimSuffix(found[0]["src"], "/api/chatkit/widget.js")
		policy := regexp.MustCompile(`Content-Security-Policy" content="([^"]+)"`).FindSubmatch(page)
		if policy == nil {
			t.Fatalf("%s has no policy", name)
		}
		for _, directive := range []string{"script-src " + docent + " https://cdn.platform.openai.com;", "connect-src " + docent + ";", "frame-src https://cdn.platform.openai.com;"} {
			if !strings.Contains(string(policy[1]), directive) {
				t.Errorf("%s: its policy %q has no %q", name, policy[1], directive)
			}
		}
		if regexp.MustCompile(`<script>|<style>|style=| on\w+=`).Match(page) {
			t.Errorf("%s has something that its own policy blocks", name)
		}
	}
}
