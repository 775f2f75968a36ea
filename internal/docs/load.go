package docs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"docent/internal/redact"
)

const (
	// loadTime bounds loading an index from a URL.
	loadTime = 60 * time.Second
	// maxRedirects is how many redirects are followed.
	maxRedirects = 3
	// maxHeader is the most that is read of an answer's header block, and of an ETag,
	// in bytes.
	maxHeader = 64 << 10
	maxETag   = 1 << 10
	// maxText is how many characters of a foreign text stand in an error.
	maxText = 300
)

// Load returns the site of the index at a location: a path, an https URL, or an http
// URL on loopback. Its errors have nothing of a URL's query, which may be a signature.
func Load(ctx context.Context, location string) (*Site, error) {
	site, _, err := LoadDated(ctx, location)
	return site, err
}

// LoadDated is [Load]. It also returns when the index was changed: the file's time, or
// what the server says in Last-Modified, or the zero time if it does not.
func LoadDated(ctx context.Context, location string) (*Site, time.Time, error) {
	if !strings.Contains(location, "://") {
		return loadFile(location)
	}
	r, err := newRemote(location, nil)
	if err != nil {
		return nil, time.Time{}, err
	}
	site, fresh, err := r.load(ctx, stamp{})
	changed, _ := http.ParseTime(fresh.modified) // A stamp has none that is not valid.
	return site, changed, err
}

func loadFile(path string) (*Site, time.Time, error) {
	if path == "" {
		return nil, time.Time{}, errors.New("no index was named: give a path or a URL")
	}
	file, err := os.Open(path) //nolint:gosec // The operator's own choice.
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("reading the index: %w", err)
	}
	defer file.Close() //nolint:errcheck // It was only read.
	info, err := file.Stat()
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("reading the index: %w", err)
	}
	data, err := readAll(file)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("reading the index: %w", err)
	}
	site, err := Read(data)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", path, err)
	}
	return site, info.ModTime(), nil
}

// readAll reads no more than a byte above what [Read] accepts.
func readAll(r io.Reader) ([]byte, error) {
	return io.ReadAll(io.LimitReader(r, MaxCompressed+1)) //nolint:wrapcheck // Its callers say what they read.
}

// remote is an index at a URL.
type remote struct {
	url  *url.URL
	http *http.Client
}

// stamp tells one version of a remote index from the next.
type stamp struct {
	// etag and modified are what the server said, or "".
	etag, modified string
	// name is the first two lines of the file, which have its checksum.
	name string
}

// newRemote checks a URL. The transport is optional.
func newRemote(location string, transport http.RoundTripper) (*remote, error) {
	u, err := url.Parse(location)
	switch {
	case err != nil:
		return nil, errors.New("the index's URL is not a valid URL") // The error would quote it.
	case u.User != nil:
		return nil, errors.New("the index's URL must not have a user name or a password: they are not sent")
	case u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return nil, errors.New("the index must be at a path, an https URL, or an http URL on loopback")
	}
	if transport == nil {
		transport = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			ForceAttemptHTTP2:      true,
			DisableKeepAlives:      true, // The next request is minutes away.
			TLSHandshakeTimeout:    10 * time.Second,
			MaxResponseHeaderBytes: maxHeader,
		}
	}
	return &remote{u, &http.Client{Transport: transport, CheckRedirect: checkRedirect}}, nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// checkRedirect follows redirects to https, and those on loopback.
func checkRedirect(req *http.Request, via []*http.Request) error {
	req.Header.Del("Referer") // It would have the query.
	switch from := via[len(via)-1].URL; {
	case len(via) > maxRedirects:
		return fmt.Errorf("more than %d redirects", maxRedirects)
	case req.URL.User != nil:
		return errors.New("a redirect to a URL with a user name")
	case req.URL.Scheme != "https" && (from.Scheme != "http" || req.URL.Scheme != "http" || !isLoopback(req.URL.Hostname())):
		return errors.New("a redirect to a URL that is not https")
	}
	return nil
}

// load returns the site and its stamp, or no site if it is the one that old is of.
func (r *remote) load(ctx context.Context, old stamp) (*Site, stamp, error) {
	bounded, cancel := context.WithTimeout(ctx, loadTime)
	defer cancel()
	site, fresh, err := r.get(bounded, old)
	switch {
	case err == nil:
		return site, fresh, nil
	case ctx.Err() != nil:
		err = ctx.Err()
	case bounded.Err() != nil:
		err = fmt.Errorf("the server took more than %s", loadTime)
	}
	return nil, stamp{}, fmt.Errorf("loading the index from %s: %w", r, err)
}

// String returns the URL without its query.
func (r *remote) String() string {
	return (&url.URL{Scheme: r.url.Scheme, Host: r.url.Host, Path: r.url.Path, RawPath: r.url.RawPath}).String()
}

func (r *remote) get(ctx context.Context, old stamp) (*Site, stamp, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url.String(), nil)
	if err != nil {
		return nil, old, r.clean(err)
	}
	req.Header.Set("User-Agent", "docent")
	switch {
	case old.etag != "":
		req.Header.Set("If-None-Match", old.etag)
	case old.modified != "":
		req.Header.Set("If-Modified-Since", old.modified)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return nil, old, r.clean(err)
	}
	defer resp.Body.Close() //nolint:errcheck // Read to its end, or given up.
	switch {
	case resp.StatusCode == http.StatusNotModified && old.name != "":
		return nil, old, nil
	case resp.StatusCode != http.StatusOK:
		return nil, old, fmt.Errorf("the server answers %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	case resp.ContentLength > MaxCompressed:
		return nil, old, errTooLarge
	}
	data, err := readAll(resp.Body)
	if err != nil {
		return nil, old, fmt.Errorf("the download was cut short: %w", r.clean(err))
	}
	fresh := stampOf(resp.Header, data)
	if old.name != "" && fresh.name == old.name {
		_, err := contentOf(data) // It may be cut.
		return nil, fresh, err
	}
	site, err := Read(data)
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil && kind == "text/html" {
		return nil, old, errors.New("the URL serves HTML, not an index: publish the file that `docent index` makes there")
	}
	return site, fresh, err
}

// etag matches what may be sent back in a header.
var etag = regexp.MustCompile(`^(W/)?"[!#-~]*"$`)

func stampOf(h http.Header, data []byte) stamp {
	var s stamp
	if tag := h.Get("ETag"); len(tag) <= maxETag && etag.MatchString(tag) {
		s.etag = tag
	}
	if modified := h.Get("Last-Modified"); modified != "" {
		if _, err := http.ParseTime(modified); err == nil {
			s.modified = modified
		}
	}
	if lines := bytes.SplitAfterN(data, []byte("\n"), 3); len(lines) == 3 {
		s.name = string(lines[0]) + string(lines[1])
	}
	return s
}

// query matches the query of a URL in a text, and what follows it.
var query = regexp.MustCompile(`(?s)\?.*`)

// minSecret is the length in bytes from which a query may be a secret. Hiding a
// shorter one, as v=1, would hide parts of words.
const minSecret = 8

// clean returns an error of net/http without the URL and without any query: errors
// about redirects quote the next URL, which may be signed too.
func (r *remote) clean(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	var secret redact.Rule
	if len(r.url.RawQuery) >= minSecret {
		secret = redact.Secrets(r.url.RawQuery)
	}
	return errors.New(redact.Text(query.ReplaceAllLiteralString(err.Error(), "?…"), maxText, secret))
}
