package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"docent/internal/docs"
	"docent/internal/docs/site"
	"docent/internal/standin"
)

//go:embed site
var files embed.FS

// A page is one of the docs site.
type page struct {
	Path, Name string
	document
}

// order is that of the site's navigation. A page is docs/NAME.md or, if it is
// only for this site, site/pages/NAME.html.
var order = []string{
	"introduction", "embed", "indexing", "deploy", "operate", "configuration", "http", "troubleshooting", "limits", "performance", "decisions",
}

// own are the pages that are only for this site.
var own = map[string]document{
	"introduction": {Title: "Introduction", Summary: "An AI chat for your documentation, and the key stays on your server."},
	"limits":       {Title: "Try the limit", Summary: "Five sessions a minute: see the sixth refused, and when the next one comes."},
}

// allPages returns the pages in their order.
func allPages() ([]page, error) {
	var pages []page
	for _, name := range order {
		p := page{Path: "/" + name, Name: name}
		if name == order[0] {
			p.Path = "/"
		}
		var known bool
		if p.document, known = own[name]; !known {
			var err error
			if p.document, err = renderDocument(name); err != nil {
				return nil, err
			}
		}
		pages = append(pages, p)
	}
	return pages, nil
}

// standInPath is where the stand-in for ChatKit's script is, if anywhere.
const standInPath = "/chatkit-stand-in/"

const chatKitHost = "https://cdn.platform.openai.com"

// front puts the docs site in front of the service, which answers everything
// that is not a page or asset of the site. The site's chat is the stand-in or
// the real ChatKit.
func front(standIn bool) (func(docent http.Handler) http.Handler, error) {
	contents, err := render(standIn)
	if err != nil {
		return nil, fmt.Errorf("the docs site: %w", err)
	}
	chatKit := http.StripPrefix(standInPath, standin.ChatKit())
	policy := contentSecurityPolicy(standIn)
	return func(docent http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			content, known := contents[r.URL.Path]
			switch {
			case r.Method != http.MethodGet && r.Method != http.MethodHead:
				docent.ServeHTTP(w, r)
			case known:
				w.Header().Set("Content-Security-Policy", policy)
				content.ServeHTTP(w, r)
			case standIn && strings.HasPrefix(r.URL.Path, standInPath):
				chatKit.ServeHTTP(w, r)
			default:
				docent.ServeHTTP(w, r)
			}
		})
	}, nil
}

// contentSecurityPolicy is what a site with Docent at its own origin needs, and
// nothing else.
func contentSecurityPolicy(standIn bool) string {
	script, frame := "'self'", "'self'"
	if !standIn {
		script, frame = "'self' "+chatKitHost, chatKitHost
	}
	return strings.Join([]string{
		"default-src 'none'",
		"script-src " + script,
		"frame-src " + frame,
		"connect-src 'self'",
		"style-src 'self'",
		"img-src 'self'",
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
	}, "; ")
}

// content is a page or an asset, as it is served.
type content struct {
	name string // Its extension says the type.
	body []byte
	etag string
}

func newContent(name string, body []byte) content {
	sum := sha256.Sum256(body)
	return content{name, body, `"` + hex.EncodeToString(sum[:8]) + `"`}
}

func (c content) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-cache") // Kept, but asked for each time: the next build may have others.
	h.Set("ETag", c.etag)
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, c.name, time.Time{}, bytes.NewReader(c.body))
}

// render returns the site by path.
func render(standIn bool) (map[string]content, error) {
	contents := map[string]content{}
	assets, err := fs.Glob(files, "site/assets/*")
	if err != nil {
		return nil, err //nolint:wrapcheck // The pattern is a constant and valid.
	}
	for _, name := range assets {
		body, err := files.ReadFile(name)
		if err != nil {
			return nil, err //nolint:wrapcheck // It has been listed.
		}
		contents["/assets/"+path.Base(name)] = newContent(name, body)
	}
	pages, err := allPages()
	if err != nil {
		return nil, err
	}
	for i, p := range pages {
		body := p.Name
		if p.Body != "" {
			body = "document"
		}
		t, err := template.ParseFS(files, "site/layout.html", "site/pages/"+body+".html")
		if err != nil {
			return nil, fmt.Errorf("page %s: %w", p.Name, err)
		}
		data := struct {
			page
			Pages          []page
			Previous, Next *page
			StandIn        string
		}{page: p, Pages: pages}
		if i > 0 {
			data.Previous = &pages[i-1]
		}
		if i < len(pages)-1 {
			data.Next = &pages[i+1]
		}
		if standIn {
			data.StandIn = standInPath + "chatkit.js"
		}
		var html bytes.Buffer
		if err := t.Execute(&html, data); err != nil {
			return nil, fmt.Errorf("page %s: %w", p.Name, err)
		}
		contents[p.Path] = newContent(p.Name+".html", html.Bytes())
	}
	return contents, nil
}

// ownIndex makes an index of the site's pages in a temporary file. done removes it.
func ownIndex(ctx context.Context, address string) (file string, done func(), err error) {
	dir, err := os.MkdirTemp("", "docent-demo-")
	if err != nil {
		return "", nil, err //nolint:wrapcheck // It names the folder.
	}
	done = func() { _ = os.RemoveAll(dir) } // It is the system's temporary folder.
	if file, err = makeIndex(ctx, dir, address); err != nil {
		done()
		return "", nil, fmt.Errorf("the index of the docs site: %w", err)
	}
	return file, done, nil
}

func makeIndex(ctx context.Context, dir, address string) (string, error) {
	pages := filepath.Join(dir, "site")
	if err := write(pages); err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("the port: %w", err)
	}
	s, _, err := site.Read(ctx, os.DirFS(pages), site.Options{Base: "http://localhost:" + port})
	if err != nil {
		return "", err
	}
	f, err := os.Create(filepath.Join(dir, "docs.index")) //nolint:gosec // The folder is our own.
	if err != nil {
		return "", err //nolint:wrapcheck // It names the file.
	}
	return f.Name(), errors.Join(docs.Write(f, s), f.Close())
}

// write writes the site into a folder. The pages name no other host, so the folder
// can be served anywhere.
func write(folder string) error {
	contents, err := render(true)
	if err != nil {
		return err
	}
	for name, c := range contents {
		switch {
		case name == "/":
			name = "index.html"
		case path.Ext(name) == "":
			name += ".html"
		}
		file := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // A web server may be another user.
			return err //nolint:wrapcheck // It names the folder.
		}
		if err := os.WriteFile(file, c.body, 0o644); err != nil { //nolint:gosec // As above.
			return err //nolint:wrapcheck // It names the file.
		}
	}
	return nil
}
