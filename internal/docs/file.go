package docs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The bounds of an index file, in bytes.
const (
	// MaxCompressed is the most that a file may have.
	MaxCompressed = 128 << 20
	// MaxUnpacked is the most that it may take in memory when it is read.
	MaxUnpacked = 512 << 20
)

// An index file has:
//   - a line with the format and its version,
//   - a line with the SHA-256 of all that follows, in hexadecimal,
//   - the site without its vectors, compressed with gzip: a record for the site and
//     one for each page, each after its length,
//   - the vectors of all pieces that have one, in their order, a byte for each
//     dimension. They are not compressed: gzip would make them a tenth smaller, and
//     reading twice as slow.
//
// The encoding is our own because a file is bounded by what it takes in memory. With
// encoding/gob a section can take one byte in the file and 80 in memory.
const (
	format  = "docent index "
	version = 1
)

const (
	// maxHead is the most that the record of the site may have, in bytes.
	maxHead = 64 << 10
	// maxDimensions is more than any embedding model has.
	maxDimensions = 1 << 14
	// What a part of a site takes in memory besides its text, in bytes.
	pageSize    = 88
	sectionSize = 80
	headingSize = 16
	pieceSize   = 48
)

const makeAgain = "make it again with `docent index`"

var (
	errCut      = errors.New("the index is incomplete: copy it again, or " + makeAgain)
	errDamaged  = errors.New("the index is damaged: copy it again, or " + makeAgain)
	errTooLarge = fmt.Errorf("the index has more than %d MB, which is the most that Docent reads", MaxCompressed>>20)
	errBomb     = fmt.Errorf("the index takes more than %d MB of memory, which is the most that Docent gives it", MaxUnpacked>>20)
)

// Write writes a site as an index file, all of it or none: it fails for a site that
// [Read] would refuse. The same site always becomes the same bytes.
func Write(w io.Writer, s *Site) error {
	if err := check(s); err != nil {
		return fmt.Errorf("the site cannot be written as an index: %w", err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s%d\n%064d\n", format, version, 0)
	start := b.Len()
	if err := pack(&b, s); err != nil {
		return err
	}
	sum := sha256.Sum256(b.Bytes()[start:])
	hex.Encode(b.Bytes()[start-1-hex.EncodedLen(len(sum)):], sum[:])
	if _, err := Read(b.Bytes()); err != nil { // It is too large.
		return err
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("writing the index: %w", err)
	}
	return nil
}

// pack appends what stands below the two lines.
func pack(b *bytes.Buffer, s *Site) error {
	var record writer
	size := 0 // Of all pages.
	for i := range s.Pages {
		record = record[:0]
		record.page(&s.Pages[i])
		size += len(record)
	}
	record = record[:0]
	record.head(s, size)
	if len(record) > maxHead {
		return fmt.Errorf("the names of the site's versions have more than %d kB", maxHead>>10)
	}
	z := gzip.NewWriter(b)
	_, err := z.Write(append(binary.AppendUvarint(nil, uint64(len(record))), record...))
	for i := range s.Pages {
		record = record[:0]
		record.page(&s.Pages[i])
		_, failed := z.Write(append(binary.AppendUvarint(nil, uint64(len(record))), record...))
		err = errors.Join(err, failed)
	}
	if err = errors.Join(err, z.Close()); err != nil {
		return fmt.Errorf("compressing the index: %w", err)
	}
	for _, section := range s.sections() {
		for _, piece := range section.Pieces {
			record = record[:0]
			for _, v := range piece.Values {
				record = append(record, byte(v)) //nolint:gosec // Read turns it back.
			}
			b.Write(record)
		}
	}
	return nil
}

// A writer is a record that grows.
type writer []byte

func (w *writer) number(n int) { *w = binary.AppendUvarint(*w, uint64(n)) } //nolint:gosec // A length or an offset.

func (w *writer) text(texts ...string) {
	for _, s := range texts {
		w.number(len(s))
		*w = append(*w, s...)
	}
}

func (w *writer) texts(texts []string) {
	w.number(len(texts))
	w.text(texts...)
}

// head writes the site without its pages, which have so many bytes.
func (w *writer) head(s *Site, size int) {
	w.text(s.Language, s.VersionPath, s.DefaultVersion, s.Model)
	w.texts(s.Versions)
	w.number(s.Dimensions)
	w.number(len(s.Pages))
	w.number(size)
}

func (w *writer) page(p *Page) {
	w.text(p.URL, p.Title, p.Language, p.Version)
	w.number(len(p.Sections))
	for i := range p.Sections {
		s := &p.Sections[i]
		w.text(s.Anchor, s.Text)
		w.texts(s.Headings)
		w.number(len(s.Pieces))
		for _, piece := range s.Pieces {
			w.number(piece.Start)
			w.number(piece.End)
			*w = binary.LittleEndian.AppendUint32(*w, math.Float32bits(piece.Scale))
		}
	}
}

// Read returns the site of an index file. It fails for a file that is not an index,
// or not a valid one, with a sentence that says what it is or what to do. The site
// holds nothing of data.
func Read(data []byte) (*Site, error) {
	if len(data) > MaxCompressed {
		return nil, errTooLarge
	}
	content, err := contentOf(data)
	if err != nil {
		return nil, err
	}
	s, err := unpack(content)
	if err != nil {
		return nil, err
	}
	if err := check(s); err != nil {
		return nil, fmt.Errorf("the index is not valid: %w; %s", err, makeAgain)
	}
	return s, nil
}

// contentOf checks the two lines of a file and returns what follows them.
func contentOf(data []byte) ([]byte, error) {
	line, rest, whole := bytes.Cut(data, []byte("\n"))
	name, isIndex := bytes.CutPrefix(line, []byte(format))
	switch {
	case len(data) > 0 && bytes.HasPrefix([]byte(format), data):
		return nil, errCut
	case !isIndex:
		return nil, fmt.Errorf("this is not an index of Docent's: %s; make one with `docent index`", looksLike(data))
	}
	number, err := strconv.ParseUint(string(name), 10, 32)
	switch {
	case !whole:
		return nil, errCut
	case err == nil && number > version:
		return nil, errors.New("the index was made by a newer Docent: use that one here too, or make the index again with this one")
	case err != nil || number != version:
		return nil, errDamaged
	}
	sum, content, whole := bytes.Cut(rest, []byte("\n"))
	want, err := hex.DecodeString(string(sum))
	got := sha256.Sum256(content)
	switch {
	case !whole:
		return nil, errCut
	case err != nil:
		return nil, errDamaged
	case !bytes.Equal(want, got[:]):
		return nil, fmt.Errorf("the index is incomplete or damaged (its checksum is wrong): copy it again, or %s", makeAgain)
	}
	return content, nil
}

// looksLike says what kind of file data is, if it is not an index.
func looksLike(data []byte) string {
	if len(data) == 0 {
		return "it is empty"
	}
	kind, _, _ := strings.Cut(http.DetectContentType(data), ";")
	return "it looks like " + kind
}

// unpack reads what stands below the two lines.
func unpack(content []byte) (*Site, error) {
	file := bytes.NewReader(content)
	z, err := gzip.NewReader(file)
	if err != nil {
		return nil, errDamaged
	}
	z.Multistream(false) // The vectors follow.
	records := bufio.NewReader(z)
	r := reader{memory: MaxUnpacked}
	if r.record, err = next(records, maxHead); err != nil {
		return nil, err
	}
	s, count, size := r.head()
	r.dimensions = s.Dimensions
	if err := r.end(); err != nil {
		return nil, err
	}
	// A file that is too large says so in its head, before anything is unpacked. One
	// whose head lies is damaged.
	if !r.take(size, 1) || !r.take(count, pageSize) {
		return nil, r.err
	}
	for range count {
		if r.record, err = next(records, size); err != nil {
			return nil, err
		}
		size -= len(r.record)
		s.Pages = append(s.Pages, r.page())
		if err := r.end(); err != nil {
			return nil, err
		}
	}
	if _, err := records.ReadByte(); !errors.Is(err, io.EOF) || size != 0 { // Or gzip's own checksum is wrong.
		return nil, errDamaged
	}
	return s, vectors(s, content[len(content)-file.Len():])
}

// vectors gives the pieces of a site that have a vector theirs.
func vectors(s *Site, data []byte) error {
	values := make([]int8, len(data))
	for i, b := range data {
		values[i] = int8(b) //nolint:gosec // It was one.
	}
	for _, section := range s.sections() {
		for i := range section.Pieces {
			piece := &section.Pieces[i]
			if piece.Scale == 0 {
				continue
			}
			if len(values) < s.Dimensions {
				return errDamaged
			}
			piece.Values, values = values[:s.Dimensions:s.Dimensions], values[s.Dimensions:]
		}
	}
	if len(values) > 0 {
		return errDamaged
	}
	return nil
}

// next reads a record of at most limit bytes. A length that is not true takes no
// memory.
func next(r *bufio.Reader, limit int) (string, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil || n > uint64(limit) { //nolint:gosec // It is not negative.
		return "", errDamaged
	}
	var b strings.Builder
	b.Grow(int(min(n, 1<<20)))
	size, err := io.Copy(&b, io.LimitReader(r, int64(n))) //nolint:gosec // At most limit.
	if err != nil || uint64(size) != n {                  //nolint:gosec // It is not negative.
		return "", errDamaged
	}
	return b.String(), nil
}

// A reader takes values from a record. What it returns after the first fault has no
// meaning.
type reader struct {
	record string
	// memory is what the site may still take, in bytes.
	memory int
	// dimensions is what a vector takes.
	dimensions int
	err        error
}

// end returns the record's first fault: a record must have been read to its end.
func (r *reader) end() error {
	if r.err == nil && r.record != "" {
		r.err = errDamaged
	}
	return r.err
}

// take counts n things of a size in bytes. It returns false if the site becomes too
// large.
func (r *reader) take(n, size int) bool {
	if r.err == nil && n > r.memory/size {
		r.err = errBomb
	}
	r.memory -= n * size
	return r.err == nil
}

func (r *reader) number() int {
	var n uint64
	for shift := 0; shift < 35; shift += 7 {
		if r.record == "" {
			break
		}
		b := r.record[0]
		r.record = r.record[1:]
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return int(n) //nolint:gosec // At most 35 bits.
		}
	}
	r.err = errDamaged
	return 0
}

// bytes returns the next n bytes.
func (r *reader) bytes(n int) string {
	if r.err != nil || n > len(r.record) {
		r.err = errDamaged
		return ""
	}
	var s string
	s, r.record = r.record[:n], r.record[n:]
	return s
}

func (r *reader) text() string { return r.bytes(r.number()) }

// count returns how many things of a size in memory follow.
func (r *reader) count(size int) int {
	n := r.number()
	if n > len(r.record) { // Each has at least a byte.
		r.err = errDamaged
	}
	if r.err != nil || !r.take(n, size) {
		return 0
	}
	return n
}

func (r *reader) texts() []string {
	n := r.count(headingSize)
	if n == 0 {
		return nil
	}
	texts := make([]string, n)
	for i := range texts {
		texts[i] = r.text()
	}
	return texts
}

func (r *reader) scale() float32 {
	b := r.bytes(4)
	if r.err != nil {
		return 0
	}
	return math.Float32frombits(binary.LittleEndian.Uint32([]byte(b)))
}

// head reads the site without its pages, how many there are, and their size in bytes.
func (r *reader) head() (s *Site, count, size int) {
	s = &Site{Language: r.text(), VersionPath: r.text(), DefaultVersion: r.text(), Model: r.text(), Versions: r.texts(), Dimensions: r.number()}
	return s, r.number(), r.number()
}

func (r *reader) page() Page {
	p := Page{URL: r.text(), Title: r.text(), Language: r.text(), Version: r.text()}
	if n := r.count(sectionSize); n > 0 {
		p.Sections = make([]Section, n)
	}
	for i := range p.Sections {
		s := &p.Sections[i]
		s.Anchor, s.Text, s.Headings = r.text(), r.text(), r.texts()
		if n := r.count(pieceSize); n > 0 {
			s.Pieces = make([]Piece, n)
		}
		for k := range s.Pieces {
			s.Pieces[k] = Piece{Start: r.number(), End: r.number(), Scale: r.scale()}
			if s.Pieces[k].Scale != 0 && !r.take(r.dimensions, 1) {
				return p
			}
		}
	}
	return p
}

// check returns an error for a site that cannot be searched, or whose text is not fit
// to be printed. Control characters are an error: replacing them is for what reads a
// site's pages, which knows what they stand for.
func check(s *Site) error {
	if s.Dimensions < 0 || s.Dimensions > maxDimensions || (s.Dimensions == 0) != (s.Model == "") {
		return errors.New("its model and the length of its vectors do not fit")
	}
	if !areLines(s.Language, s.VersionPath, s.DefaultVersion, s.Model) || !areLines(s.Versions...) {
		return errors.New("its language, model or versions are not plain text in one line")
	}
	for i := range s.Pages {
		p := &s.Pages[i]
		if !isPage(p.URL) || !areLines(p.URL) {
			return fmt.Errorf("page %d has no absolute https or http URL", i+1)
		}
		if !areLines(p.Title, p.Language, p.Version) {
			return fmt.Errorf("page %d (%s) has a title, language or version that is not plain text in one line", i+1, p.URL)
		}
		for k := range p.Sections {
			if fault := faultOf(&p.Sections[k], s.Dimensions); fault != "" {
				return fmt.Errorf("section %d of %s has %s", k+1, p.URL, fault)
			}
		}
	}
	return nil
}

// faultOf says what is wrong with a section, or returns "".
func faultOf(s *Section, dimensions int) string {
	switch {
	case !areLines(s.Anchor) || !areLines(s.Headings...):
		return "an anchor or a heading that is not plain text in one line"
	case !isPlain(s.Text, "\n\t"):
		return "a text with control characters or invalid UTF-8"
	}
	for _, p := range s.Pieces {
		switch {
		case p.Start < 0 || p.Start > p.End || p.End > len(s.Text) || !isBoundary(s.Text, p.Start) || !isBoundary(s.Text, p.End):
			return "a piece that is not in its text"
		case p.Values == nil && p.Scale == 0: // It has not been embedded.
		case len(p.Values) != dimensions || dimensions == 0:
			return "a vector of the wrong length"
		case !(p.Scale > 0 && p.Scale <= 1): // It is 1/127 or less for a vector of length 1. NaN is neither.
			return "a vector with a scale that is not above 0 and at most 1"
		}
	}
	return ""
}

// isPage reports whether s can be the URL of a page.
func isPage(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil && !strings.Contains(s, "#")
}

// areLines reports whether each text can be printed in a line.
func areLines(texts ...string) bool {
	for _, s := range texts {
		if !isPlain(s, "") {
			return false
		}
	}
	return true
}

// isPlain reports whether s is valid UTF-8 without control characters, but for those
// allowed.
func isPlain(s, allowed string) bool {
	for i := range len(s) {
		// Those above ASCII are the bytes C2 80 to C2 9F.
		if c := s[i]; (c < ' ' || c == '\x7f') && strings.IndexByte(allowed, c) < 0 || c == 0xC2 && i+1 < len(s) && s[i+1] < 0xA0 {
			return false
		}
	}
	return utf8.ValidString(s)
}

func isBoundary(s string, at int) bool { return at == len(s) || utf8.RuneStart(s[at]) }
