package docs_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var (
	fence   = regexp.MustCompile("(?ms)^```.*?^```$")
	code    = regexp.MustCompile("`[^`\n]+`")
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors returns the IDs that GitHub gives the headings of a page.
func anchors(page string) []string {
	var ids []string
	seen := map[string]int{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		id := strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")
		if n := seen[id]; n > 0 {
			ids = append(ids, fmt.Sprintf("%s-%d", id, n))
		} else {
			ids = append(ids, id)
		}
		seen[id]++
	}
	return ids
}

// TestLinks holds the links of all pages to the repository's files and to the
// headings in them.
func TestLinks(t *testing.T) {
	t.Parallel()
	var pages []string
	for _, pattern := range []string{"../*.md", "*.md", "../deploy/*/*.md", "../examples/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d pages, %v", pattern, len(found), err)
		}
		pages = append(pages, found...)
	}
	for _, path := range pages {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			text := code.ReplaceAllString(fence.ReplaceAllString(read(t, path), ""), "")
			for _, m := range link.FindAllStringSubmatch(text, -1) {
				target, err := url.Parse(m[1])
				if err != nil || target.IsAbs() {
					continue
				}
				file := path
				if target.Path != "" {
					file = filepath.Join(filepath.Dir(path), target.Path)
				}
				if _, err := os.Stat(file); err != nil {
					t.Errorf("%s leads nowhere", m[1])
				} else if f := target.Fragment; f != "" && !slices.Contains(anchors(read(t, file)), f) {
					t.Errorf("%s: no heading has that ID", m[1])
				}
			}
		})
	}
}

// TestErrorCodes holds the tables of error codes to the code.
func TestErrorCodes(t *testing.T) {
	t.Parallel()
	var want []string
	for _, m := range regexp.MustCompile(`(?m)^\tcode\w+ += "(\w+)"$`).FindAllStringSubmatch(read(t, "../internal/httpapi/errors.go"), -1) {
		if m[1] != "client_gone" { // It is for the log: the client has left.
			want = append(want, m[1])
		}
	}
	slices.Sort(want)
	tests := map[string]struct{ page, cell string }{
		"HTTP":            {"http.md", `(?m)^\| \d+ \| ([^|]+) \|`},
		"Troubleshooting": {"troubleshooting.md", `(?m)^\| ([^|]+) \|`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, row := range regexp.MustCompile(tt.cell).FindAllStringSubmatch(read(t, tt.page), -1) {
				for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(row[1], -1) {
					got = append(got, m[1])
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("codes of %s (-errors.go +page):\n%s", tt.page, diff)
			}
		})
	}
}

// TestRooms holds README's table of packages to the folders, and README to the
// length that a stranger reads in five minutes.
func TestRooms(t *testing.T) {
	t.Parallel()
	readme := read(t, "../README.md")
	if n := strings.Count(readme, "\n"); n > 120 {
		t.Errorf("README.md has %d lines, want at most 120", n)
	}
	var listed []string
	for _, m := range regexp.MustCompile(`(?m)^\| \[(internal/\w+)\]`).FindAllStringSubmatch(readme, -1) {
		listed = append(listed, m[1])
	}
	folders, err := filepath.Glob("../internal/*")
	if err != nil {
		t.Fatal(err)
	}
	for i, folder := range folders {
		folders[i] = strings.TrimPrefix(filepath.ToSlash(folder), "../")
	}
	slices.Sort(listed)
	if diff := cmp.Diff(folders, listed); diff != "" {
		t.Errorf("packages (-folders +README):\n%s", diff)
	}
}
