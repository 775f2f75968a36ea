// Package site reads the text of a docs site from the folder of HTML that its
// generator has built.
package site

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"docent/internal/docs"
)

// minRepeats is how many pages a site needs before what most of them share is taken
// for its frame.
const minRepeats = 5

// Options say how a folder is read. All fields may be empty.
type Options struct {
	// Base is the URL that the folder is served at. If it is empty, it is taken from
	// the pages' canonical links or from sitemap.xml.
	Base string
	// CodeAttribute is the attribute that holds the code of its element.
	CodeAttribute string
	// VersionPath, Versions and DefaultVersion are those of [docs.Site].
	VersionPath    string
	Versions       []string
	DefaultVersion string
	// Progress is told how many of the files have been read. It is called for one
	// file at a time.
	Progress func(done, total int)
}

// Report says what was read.
type Report struct {
	Pages, Sections int
	// Left is what was left out, by path.
	Left []Left
	// Warnings are sentences for the operator.
	Warnings []string
}

// Left is a file that was left out.
type Left struct {
	// Path is that of the file in the folder.
	Path string
	// Reason is a short phrase, the same for all files that are left out for it.
	Reason string
}

type reader struct {
	fsys    fs.FS
	options Options
	// large is held while a large page is read.
	large sync.Mutex
}

// Read returns the text of the site in a folder. The report is also good if no page
// could be taken, which is not an error. A folder without HTML, one that names no URL,
// and a file that cannot be read are.
func Read(ctx context.Context, fsys fs.FS, options Options) (*docs.Site, Report, error) {
	if err := checkVersionPath(options.VersionPath); err != nil {
		return nil, Report{}, err
	}
	names, err := pageNames(fsys)
	if err != nil {
		return nil, Report{}, err
	}
	if len(names) == 0 {
		return nil, Report{}, errors.New("the folder has no HTML files")
	}
	r := &reader{fsys: fsys, options: options}
	files, err := r.readAll(ctx, names)
	if err != nil {
		return nil, Report{}, err
	}
	addresses, err := newAddresses(fsys, files, options.Base)
	if err != nil {
		return nil, Report{}, err
	}
	urls := addresses.assign(files)
	if slices.ContainsFunc(files, func(f *file) bool { return f.pagefind }) {
		for _, f := range files {
			if !f.pagefind {
				f.leave(noPagefindBody)
			}
		}
	}
	dropRepeats(files)

	site := &docs.Site{
		VersionPath: options.VersionPath, Versions: options.Versions, DefaultVersion: options.DefaultVersion,
	}
	report := Report{Warnings: addresses.warnings}
	suffix := commonSuffix(files)
	site.Language = split(files)
	leaveUntranslated(files, urls, site)
	for i, f := range files {
		if f.reason != "" {
			report.Left = append(report.Left, Left{Path: f.path, Reason: f.reason})
			continue
		}
		site.Pages = append(site.Pages, docs.Page{
			URL: urls[i].String(), Title: f.name(urls[i], suffix), Language: f.language,
			Version: site.VersionOf(urls[i].Path), Sections: f.sections,
		})
		report.Sections += len(f.sections)
	}
	report.Pages = len(site.Pages)
	return site, report, nil
}

// pageNames returns the HTML files of a folder, sorted.
func pageNames(fsys fs.FS) ([]string, error) {
	var names []string
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		ext := strings.ToLower(path.Ext(name))
		if !d.IsDir() && (ext == ".html" || ext == ".htm") {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the folder: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

// readAll reads the files, as many at a time as there are processors.
func (r *reader) readAll(ctx context.Context, names []string) ([]*file, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	files := make([]*file, len(names))
	var (
		next     atomic.Int64
		workers  sync.WaitGroup
		mu       sync.Mutex
		done     int
		progress = func() {
			mu.Lock()
			defer mu.Unlock()
			done++
			if r.options.Progress != nil {
				r.options.Progress(done, len(names))
			}
		}
	)
	for range min(runtime.GOMAXPROCS(0), len(names)) {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(names) || ctx.Err() != nil {
					return
				}
				f, err := r.readFile(ctx, names[i])
				if err != nil {
					cancel(err)
					return
				}
				files[i] = f
				progress()
			}
		})
	}
	workers.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("reading the site: %w", err)
	}
	return files, nil
}

// leave leaves the file out, if it is not left out for another reason.
func (f *file) leave(reason string) { f.reason = cmp.Or(f.reason, reason) }

// dropRepeats drops the text that stands on more than half of the pages in one
// language. Headings with an anchor stay.
func dropRepeats(files []*file) {
	pages := map[string]int{}
	type text struct{ language, text string }
	counts := map[text]int{}
	for _, f := range files {
		if f.reason != "" {
			continue
		}
		pages[f.language]++
		seen := map[string]bool{}
		for i := range f.blocks {
			b := &f.blocks[i]
			if s := b.text(); b.isFrame() && !seen[s] {
				seen[s] = true
				counts[text{f.language, s}]++
			}
		}
	}
	for _, f := range files {
		if n := pages[f.language]; n >= minRepeats {
			for i := range f.blocks {
				b := &f.blocks[i]
				b.repeated = b.isFrame() && counts[text{f.language, b.text()}]*2 > n
			}
		}
	}
}

// isFrame reports whether a block is a part of the frame if it stands on most pages.
// A heading without an anchor is text.
func (b *block) isFrame() bool {
	return !b.mayRepeat && (b.level == 0 || b.level > 1 && b.anchor == "")
}

// split splits the pages into sections and returns the language of most of them.
func split(files []*file) string {
	languages := map[string]int{}
	for _, f := range files {
		if f.reason != "" {
			continue
		}
		if f.sections = f.split(); len(f.sections) == 0 {
			f.leave(noText)
		} else if f.language != "" {
			languages[f.language]++
		}
	}
	main := ""
	for language, n := range languages {
		if most := languages[main]; n > most || n == most && language < main {
			main = language
		}
	}
	return main
}

// leaveUntranslated leaves out the pages of other languages that are copies of a page
// in the main one, because nobody has translated them yet.
func leaveUntranslated(files []*file, urls []*url.URL, site *docs.Site) {
	type copied struct{ version, text string }
	of := func(i int) copied {
		var b strings.Builder
		for _, s := range files[i].sections {
			b.WriteString(s.Text)
			b.WriteByte(0)
		}
		return copied{site.VersionOf(urls[i].Path), b.String()}
	}
	originals := map[copied]bool{}
	translated := map[string]bool{} // Languages in which the site has text.
	for i, f := range files {
		if f.reason == "" {
			translated[f.language] = true
			if f.language == site.Language {
				originals[of(i)] = true
			}
		}
	}
	for i, f := range files {
		if f.reason != "" {
			continue
		}
		if f.language == site.Language && f.frameLanguage != f.language && translated[f.frameLanguage] ||
			f.language != site.Language && originals[of(i)] {
			f.leave(notTranslated)
		}
	}
}

// split splits the page at its headings. The first h1 is the page's title: its
// text belongs to the page's beginning. A heading without an anchor, or with the
// anchor of an earlier one, is a line of the section that it stands in.
func (f *file) split() []docs.Section {
	type heading struct {
		level int
		text  string
	}
	var (
		sections   []docs.Section
		section    docs.Section
		above      []heading
		text       []string
		hasDropped bool
		titled     bool
		used       = map[string]bool{}
	)
	finish := func() {
		section.Text = strings.Join(text, "\n\n")
		// A section of which only the frame's text is left is part of the frame.
		if section.Text != "" || section.Anchor != "" && !hasDropped {
			sections = append(sections, section)
		}
		text, hasDropped = nil, false
	}
	for i := range f.blocks {
		b := &f.blocks[i]
		switch {
		case b.repeated:
			hasDropped = true
		case b.level == 1 && !titled:
			titled = true
		case b.level == 0 || b.anchor == "" || used[b.anchor]:
			text = append(text, b.text())
		default:
			finish()
			used[b.anchor] = true
			for len(above) > 0 && above[len(above)-1].level >= b.level {
				above = above[:len(above)-1]
			}
			above = append(above, heading{b.level, b.text()})
			section = docs.Section{Anchor: b.anchor}
			for _, h := range above {
				section.Headings = append(section.Headings, h.text)
			}
		}
	}
	finish()
	return sections
}

// name returns the title of the page.
func (f *file) name(u *url.URL, suffix string) string {
	for i := range f.blocks {
		if f.blocks[i].level == 1 {
			return f.blocks[i].text()
		}
	}
	last := path.Base(strings.TrimSuffix(u.Path, "/"))
	if last == "/" || last == "." {
		last = u.Hostname()
	}
	last = strings.TrimSuffix(last, path.Ext(last))
	return cmp.Or(f.heading, strings.TrimSpace(strings.TrimSuffix(f.title, suffix)), f.social, oneLine([]block{{lines: []string{clean(strings.ToValidUTF8(last, "\uFFFD"))}}}), u.Hostname())
}

// commonSuffix returns what follows the page's own name in most title elements, such
// as " | Site", or "".
func commonSuffix(files []*file) string {
	counts := map[string]int{}
	titles := 0
	for _, f := range files {
		if f.reason != "" || f.title == "" {
			continue
		}
		titles++
		at := -1
		for _, separator := range []string{" | ", " - ", " – ", " — ", " · ", " :: ", " » ", " • "} {
			at = max(at, strings.LastIndex(f.title, separator))
		}
		if at > 0 {
			counts[f.title[at:]]++
		}
	}
	for suffix, n := range counts {
		if n >= 2 && n*2 > titles {
			return suffix
		}
	}
	return ""
}

const placeholder = "{version}"

func checkVersionPath(pattern string) error {
	if pattern != "" && (!strings.HasPrefix(pattern, "/") || strings.Count(pattern, placeholder) != 1) {
		return fmt.Errorf("the version path %q does not begin with a slash or does not have %s once", pattern, placeholder)
	}
	return nil
}
