// Package docs holds Docent's documentation, so that the demo can show it
// without the repository's files.
package docs

import "embed"

// Files are the pages, such as embed.md, as GitHub shows them too.
//
//go:embed *.md
var Files embed.FS
