package site

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"
)

// addresses knows the URL of each file.
type addresses struct {
	base *url.URL
	// declared is where the pages say that they are, if that is not base. Its links
	// mean those of base.
	declared *url.URL
	// clean is true if the site's links leave out .html.
	clean bool
	// listed are the paths in the site's sitemap, without that of the base.
	listed   map[string]bool
	warnings []string
}

// parseBase returns a base URL with a path that ends in a slash.
func parseBase(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, fmt.Errorf("the site's URL %q is not an http or https URL without a user, query and fragment", s)
	}
	u = &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host), Path: path.Clean("/" + u.Path)}
	if u.Path != "/" {
		u.Path += "/"
	}
	return u, nil
}

// newAddresses finds the base URL of the files.
func newAddresses(fsys fs.FS, files []*file, base string) (*addresses, error) {
	keys := map[string]bool{}
	for _, f := range files {
		keys[key(f.path)] = true
	}
	locations := sitemap(fsys)
	listedBase := mostNamed(locations, func(u *url.URL) (string, bool) {
		// The longest end of the path that is a file says what is before the folder.
		for i := range len(u.Path) {
			if u.Path[i] == '/' && keys[key(u.Path[i+1:])] {
				return u.Path[:i+1], true
			}
		}
		return "", false
	}, 1)
	var canonical []*url.URL
	at := map[*url.URL]string{}
	for _, f := range files {
		if u, err := url.Parse(f.canonical); err == nil && isWeb(u) && f.refresh == "" {
			canonical = append(canonical, u)
			at[u] = f.path
		}
	}
	prefixes := func(u *url.URL) (string, bool) { return prefix(u.Path, at[u]) }

	a := &addresses{listed: map[string]bool{}}
	forms := 0
	for _, f := range files {
		forms += f.without - f.withEnding
	}
	a.clean = forms > 0
	switch {
	case base != "":
		u, err := parseBase(base)
		if err != nil {
			return nil, err
		}
		a.base = u
		// A site that is built for another URL than the one it is served at has
		// canonical links to that one. A single page that has one is a copy.
		if declared := mostNamed(canonical, prefixes, max(2, len(files)/2+1)); declared != nil && *declared != *u {
			a.declared = declared
			a.warnings = append(a.warnings, fmt.Sprintf("the pages' canonical links name %s; the index has them at %s", declared, u))
		}
	default:
		if a.base = mostNamed(canonical, prefixes, 1); a.base == nil {
			a.base = listedBase
		}
		if a.base == nil {
			return nil, errors.New("no canonical link and no sitemap.xml says which URL the site is served at: give it with --site")
		}
	}
	if listedBase != nil {
		for _, u := range locations {
			if rest, ok := strings.CutPrefix(u.Path, listedBase.Path); ok {
				a.listed[rest] = true
			}
		}
	}
	return a, nil
}

// mostNamed returns the base URL that most of the URLs have, if at least so many do, or
// nil. Prefix returns the path of the base that a URL has.
func mostNamed(urls []*url.URL, prefix func(*url.URL) (string, bool), least int) *url.URL {
	counts := map[string]int{}
	best := ""
	for _, u := range urls {
		p, ok := prefix(u)
		if !ok {
			continue
		}
		base, err := parseBase((&url.URL{Scheme: u.Scheme, Host: u.Host, Path: p}).String())
		if err != nil {
			continue
		}
		name := base.String()
		counts[name]++
		if n, most := counts[name], counts[best]; n > most || n == most && name < best {
			best = name
		}
	}
	if counts[best] < least {
		return nil
	}
	u, err := parseBase(best)
	if err != nil {
		return nil
	}
	return u
}

// assign finds the URL of each file, and leaves out those that stand for another.
func (a *addresses) assign(files []*file) []*url.URL {
	byKey := map[string]int{}
	own := make([]*url.URL, len(files))
	for i, f := range files {
		own[i] = a.own(f.path)
		if _, ok := byKey[key(f.path)]; !ok {
			byKey[key(f.path)] = i
		}
	}
	lists := map[string]bool{}
	for i, f := range files {
		for _, link := range f.lists {
			if u := f.resolve(own[i], link); u != nil && a.isOurs(u) {
				lists[key(strings.TrimPrefix(u.Path, a.base.Path))] = true
			}
		}
	}
	for i, f := range files {
		k := key(f.path)
		target := f.resolve(own[i], f.refresh)
		switch {
		case f.refresh != "" && target != nil && target.String() != own[i].String():
			f.leave(redirect)
		case f.noIndex:
			f.leave(noIndex)
		case k == "404" || strings.HasSuffix(k, "/404"):
			f.leave(notFoundPage)
		case k != "" && (lists[k] || lists["genindex"] && strings.HasPrefix(k, "genindex-")):
			f.leave(searchPage)
		case strings.HasPrefix(k+"/", "_modules/"): // Of Sphinx.
			f.leave(sourceCode)
		}
	}
	a.follow(files, own, byKey)
	taken := map[string]bool{}
	for i, f := range files {
		if f.reason != "" {
			continue
		}
		if u := own[i].String(); taken[u] {
			f.leave(sameURL)
		} else {
			taken[u] = true
		}
	}
	return own
}

// follow follows canonical links. One to the page itself says which form its URL has.
func (a *addresses) follow(files []*file, own []*url.URL, byKey map[string]int) {
	targets := map[int]int{}
	missing := 0
	for i, f := range files {
		if f.reason != "" || f.canonical == "" {
			continue
		}
		u := a.translate(f.resolve(own[i], f.canonical))
		switch {
		case u == nil || !isWeb(u):
		case !a.isOurs(u):
			if strings.EqualFold(u.Host, a.base.Host) {
				f.leave(otherPage)
			} else {
				f.leave(otherSite)
			}
		case key(strings.TrimPrefix(u.Path, a.base.Path)) == key(f.path):
			if !strings.HasSuffix(u.Path, "/index.html") { // Visitors see the folder.
				own[i] = &url.URL{Scheme: a.base.Scheme, Host: a.base.Host, Path: u.Path}
			}
		default:
			j, ok := byKey[key(strings.TrimPrefix(u.Path, a.base.Path))]
			if ok {
				targets[i] = j
			} else {
				missing++
			}
		}
	}
	for i, f := range files {
		j, ok := targets[i]
		if !ok || files[j].reason != "" {
			continue // A page stays if the one it names is not taken.
		}
		// Pages that name each other in a circle would all be gone: the first stays.
		first := true
		for range len(targets) {
			if j == i || !ok {
				break
			}
			first = first && j > i
			j, ok = targets[j]
		}
		if !ok || j != i || !first {
			f.leave(otherPage)
		}
	}
	if missing > 0 {
		a.warnings = append(a.warnings, fmt.Sprintf("%d pages have a canonical link to a page that is not in the folder; the index has them at their own URLs", missing))
	}
}

// translate returns what a link to the declared site means.
func (a *addresses) translate(u *url.URL) *url.URL {
	if u == nil || a.declared == nil || !strings.EqualFold(u.Host, a.declared.Host) {
		return u
	}
	rest, ok := strings.CutPrefix(u.Path+"/", a.declared.Path)
	if !ok {
		return u
	}
	return &url.URL{Scheme: a.base.Scheme, Host: a.base.Host, Path: a.base.Path + strings.TrimSuffix(rest, "/")}
}

// isOurs reports whether a URL is below the base.
func (a *addresses) isOurs(u *url.URL) bool {
	return isWeb(u) && strings.EqualFold(u.Host, a.base.Host) && strings.HasPrefix(u.Path+"/", a.base.Path)
}

// own returns the URL of a file.
func (a *addresses) own(name string) *url.URL {
	forms := forms(name)
	form := forms[0]
	if a.clean && path.Ext(form) != "" {
		form = forms[1]
	}
	if !a.listed[form] {
		if i := slices.IndexFunc(forms, func(f string) bool { return a.listed[f] }); i >= 0 {
			form = forms[i]
		}
	}
	return &url.URL{Scheme: a.base.Scheme, Host: a.base.Host, Path: a.base.Path + form}
}

func isWeb(u *url.URL) bool {
	return (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// forms returns the URLs that a file may have, below the base. The first is the one
// that any server has, the second the one without an ending.
func forms(name string) []string {
	dir, last := path.Split(name)
	stem := strings.TrimSuffix(last, path.Ext(last))
	if stem == "index" {
		return []string{dir, strings.TrimSuffix(dir, "/"), name}
	}
	return []string{name, dir + stem, dir + stem + "/"}
}

// key returns what all forms of a URL have in common.
func key(p string) string {
	p = strings.TrimSuffix(p, "/")
	if ext := path.Ext(p); strings.EqualFold(ext, ".html") || strings.EqualFold(ext, ".htm") {
		p = strings.TrimSuffix(p, ext)
		if path.Base(p) == "index" {
			p = strings.TrimSuffix(p, "index")
		}
	}
	return strings.TrimSuffix(p, "/")
}

// prefix returns what stands before a file in the path of its URL.
func prefix(p, name string) (string, bool) {
	for _, form := range forms(name) {
		if form == "" {
			if !strings.HasSuffix(p, "/") {
				p += "/"
			}
			return p, true
		}
		if rest, ok := strings.CutSuffix(p, "/"+form); ok {
			return rest + "/", true
		}
	}
	return "", false
}

// sitemap returns the URLs in the sitemaps of a folder. One that cannot be read has
// none: it only helps to find the form of the URLs.
func sitemap(fsys fs.FS) []*url.URL {
	names, err := fs.Glob(fsys, "sitemap*.xml")
	if err != nil {
		return nil
	}
	var urls []*url.URL
	for _, name := range names {
		if info, err := fs.Stat(fsys, name); err != nil || info.Size() > maxFile {
			continue
		}
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			continue
		}
		d := xml.NewDecoder(bytes.NewReader(data))
		for {
			token, err := d.Token()
			if err != nil {
				break
			}
			start, ok := token.(xml.StartElement)
			if !ok || start.Name.Local != "loc" {
				continue
			}
			var location string
			if d.DecodeElement(&location, &start) != nil {
				break
			}
			if u, err := url.Parse(strings.TrimSpace(location)); err == nil && isWeb(u) {
				urls = append(urls, u)
			}
		}
	}
	return urls
}
