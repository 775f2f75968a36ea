package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"docent/internal/app"
	"docent/internal/docs"
	"docent/internal/docs/site"
	"docent/internal/redact"
)

// indexOptions are the arguments of `docent index`.
type indexOptions struct {
	site.Options

	dir, out, previous            string
	noEmbeddings, verbose, asJSON bool
}

// A summary is what `docent index --json` prints.
type summary struct {
	File     string `json:"file"`
	Bytes    int64  `json:"bytes"`
	Pages    int    `json:"pages"`
	Sections int    `json:"sections"`
	// Languages and Versions have the number of pages of each. The name "" is that
	// of pages without.
	Languages  map[string]int `json:"languages"`
	Versions   map[string]int `json:"versions"`
	Left       []left         `json:"left"`
	Warnings   []string       `json:"warnings"`
	Embeddings *embeddings    `json:"embeddings,omitempty"`
}

// A left file is one that is not in the index.
type left struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// defaultOut is where the index is written, in the current folder.
const defaultOut = "docs.index"

func indexArguments(args []string) (indexOptions, error) {
	var o indexOptions
	var versions flagList
	a := newArguments("index")
	a.StringVar(&o.Base, "site", "", "")
	a.StringVar(&o.out, "out", defaultOut, "")
	a.StringVar(&o.previous, "previous", "", "")
	a.StringVar(&o.CodeAttribute, "code-attribute", "", "")
	a.StringVar(&o.VersionPath, "version-path", "", "")
	a.Var(&versions, "versions", "")
	a.StringVar(&o.DefaultVersion, "default-version", "", "")
	a.BoolVar(&o.noEmbeddings, "no-embeddings", false, "")
	a.BoolVar(&o.verbose, "verbose", false, "")
	a.BoolVar(&o.asJSON, "json", false, "")
	dirs, err := a.parse(args, 1, 1)
	if err != nil {
		return o, err
	}
	o.dir, o.Versions = dirs[0], versions
	switch {
	case o.Base != "" && !isSite(o.Base):
		return o, argumentsError("--site must be an http or https URL without query and fragment, such as https://docs.example.com")
	case (o.VersionPath != "") != (len(o.Versions) > 0), (o.VersionPath != "") != (o.DefaultVersion != ""):
		return o, argumentsError("--version-path, --versions and --default-version belong together")
	case o.VersionPath != "" && !slices.Contains(o.Versions, o.DefaultVersion):
		return o, argumentsError("--default-version must be one of --versions")
	case o.out == "":
		return o, argumentsError("--out must name a file")
	case !a.isSet("out") && isInside(o.out, o.dir):
		return o, argumentsError("the index would be written into the folder that is read: name a file with --out")
	}
	return o, nil
}

func isSite(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

// isInside reports whether a file is in a folder or below it.
func isInside(file, dir string) bool {
	file, err1 := filepath.Abs(file)
	dir, err2 := filepath.Abs(dir)
	if err1 != nil || err2 != nil {
		return false
	}
	// The same folder can have several names.
	parent, err1 := os.Stat(filepath.Dir(file))
	folder, err2 := os.Stat(dir)
	if err1 == nil && err2 == nil && os.SameFile(parent, folder) {
		return true
	}
	path, err := filepath.Rel(dir, file)
	return err == nil && filepath.IsLocal(path)
}

func runIndex(ctx context.Context, p app.Process, args []string) error {
	o, err := indexArguments(args)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(o.dir) // A link that leads out of the folder is an error.
	if err != nil {
		return fmt.Errorf("the site's folder: %w", err)
	}
	defer root.Close() //nolint:errcheck // It was only read.
	// A folder that cannot be written to is found before anything is paid for.
	file, err := create(o.out)
	if err != nil {
		return err
	}
	defer file.discard()
	e, err := newEmbedder(ctx, p, o)
	if err != nil {
		return err
	}
	defer e.close()

	progress := newBar(p, "Reading")
	o.Progress = progress.show
	s, report, err := site.Read(ctx, root.FS(), o.Options)
	progress.clear()
	if err != nil {
		return err
	}
	result := summarize(s, report, o)
	out := p.Stdout
	if o.asJSON {
		out = io.Discard
	}
	result.writeText(out, o.verbose)
	for _, w := range result.Warnings {
		fmt.Fprintln(p.Stderr, "docent: warning:", w)
	}
	if result.Pages == 0 {
		return errors.New("no page has anything to index: nothing was written")
	}
	if result.Embeddings, err = e.embed(ctx, s, out, o.noEmbeddings); err != nil {
		return err
	}
	if result.Bytes, err = file.write(s); err != nil {
		return err
	}
	e.forget()
	fmt.Fprintf(out, "Wrote %s (%s)\n", redact.OneLine(o.out), size(result.Bytes))
	if o.asJSON {
		return writeJSON(p.Stdout, result)
	}
	return nil
}

func summarize(s *docs.Site, report site.Report, o indexOptions) summary {
	result := summary{
		File: o.out, Pages: report.Pages, Sections: report.Sections,
		Languages: map[string]int{}, Versions: map[string]int{}, Left: []left{}, Warnings: []string{},
	}
	for i := range s.Pages {
		result.Languages[s.Pages[i].Language]++
		if s.VersionPath != "" {
			result.Versions[s.Pages[i].Version]++
		}
	}
	for _, l := range report.Left {
		result.Left = append(result.Left, left{redact.OneLine(l.Path), redact.OneLine(l.Reason)})
	}
	for _, w := range report.Warnings {
		result.Warnings = append(result.Warnings, redact.OneLine(w))
	}
	return result
}

// examples is how many files of each reason are named, unless all are wanted.
const examples = 3

func (r summary) writeText(w io.Writer, verbose bool) {
	fmt.Fprintf(w, "Read %s with %s\n", count(r.Pages, "page"), count(r.Sections, "section"))
	fmt.Fprintf(w, "  languages: %s\n", shares(r.Languages))
	if len(r.Versions) > 0 {
		fmt.Fprintf(w, "  versions: %s\n", shares(r.Versions))
	}
	byReason := map[string][]string{}
	for _, l := range r.Left {
		byReason[l.Reason] = append(byReason[l.Reason], l.Path)
	}
	if len(r.Left) > 0 {
		fmt.Fprintf(w, "Left out %s\n", count(len(r.Left), "file"))
	}
	// What hit the most files comes first.
	for _, reason := range slices.SortedFunc(maps.Keys(byReason), func(a, b string) int {
		return cmp.Or(len(byReason[b])-len(byReason[a]), cmp.Compare(a, b))
	}) {
		paths := byReason[reason]
		fmt.Fprintf(w, "%5d  %s\n", len(paths), reason)
		for i, path := range paths {
			if i == examples && !verbose && len(paths) > examples+1 {
				fmt.Fprintf(w, "         and %d more (--verbose lists them)\n", len(paths)-i)
				break
			}
			fmt.Fprintf(w, "         %s\n", path)
		}
	}
}

// none stands for the pages without a language, or without a version.
const none = "none"

// shares lists names with their numbers, the largest first.
func shares(numbers map[string]int) string {
	var list []string
	for _, name := range slices.SortedFunc(maps.Keys(numbers), func(a, b string) int {
		return cmp.Or(numbers[b]-numbers[a], cmp.Compare(cmp.Or(a, none), cmp.Or(b, none)))
	}) {
		list = append(list, fmt.Sprintf("%s %d", cmp.Or(name, none), numbers[name]))
	}
	return strings.Join(list, ", ")
}

// count returns a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// size returns a number of bytes in a unit that fits.
func size(bytes int64) string {
	if bytes < 1_000_000 {
		return fmt.Sprintf("%.1f kB", float64(bytes)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
}

// An indexFile is one that is being written. Its name has the old file until the new
// one is complete.
type indexFile struct {
	name string
	temp *os.File
}

// create opens a new file next to the one that it will replace.
func create(name string) (*indexFile, error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file: name one with --out", redact.OneLine(name))
	}
	temp := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+"."+rand.Text())
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // The web server that publishes the index is another user.
	if err != nil {
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			err = e.Err // The name of the new file means nothing to the operator.
		}
		return nil, fmt.Errorf("no file can be written into the folder %s: %w", redact.OneLine(filepath.Dir(name)), err)
	}
	return &indexFile{name, f}, nil
}

// write writes a site and puts the file in its place. It returns the file's size in
// bytes.
func (f *indexFile) write(s *docs.Site) (int64, error) {
	err := docs.Write(f.temp, s)
	if err == nil {
		err = f.temp.Sync()
	}
	info, err2 := f.temp.Stat()
	if err = errors.Join(err, err2, f.temp.Close()); err == nil {
		err = os.Rename(f.temp.Name(), f.name)
	}
	if err != nil {
		return 0, fmt.Errorf("writing %s: %w", redact.OneLine(f.name), err)
	}
	return info.Size(), nil
}

// discard removes what has not been put in place.
func (f *indexFile) discard() {
	_ = f.temp.Close()           // It may be closed.
	_ = os.Remove(f.temp.Name()) // It may have been renamed.
}
