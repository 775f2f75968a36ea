// Package testindex gives tests an index file of a small docs site.
package testindex

import (
	"os"
	"path/filepath"
	"testing"

	"docent/internal/docs"
)

// Site is where the pages of [Small] are.
const Site = "https://docs.example.com"

// Small returns a site of two pages with three sections.
func Small() *docs.Site {
	return &docs.Site{Language: "en", Pages: []docs.Page{
		{URL: Site + "/install", Title: "Install", Language: "en", Sections: []docs.Section{
			{Anchor: "linux", Headings: []string{"On Linux"}, Text: "Install Orchard on Linux with the package manager of your distribution."},
			{Anchor: "windows", Headings: []string{"On Windows"}, Text: "Install Orchard on Windows with the signed installer."},
		}},
		{URL: Site + "/limits", Title: "Limits", Language: "en", Sections: []docs.Section{
			{Anchor: "size", Headings: []string{"Size of a tree"}, Text: "A tree has at most 4,000 branches. A larger one is refused."},
		}},
	}}
}

// Write writes the index of a site into a file of the test's own, whose name it returns.
func Write(tb testing.TB, s *docs.Site) string {
	tb.Helper()
	f, err := os.Create(filepath.Join(tb.TempDir(), "docs.index"))
	if err != nil {
		tb.Fatal(err)
	}
	if err := docs.Write(f, s); err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
	return f.Name()
}
