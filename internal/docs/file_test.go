package docs_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"docent/internal/docs"
)

var update = flag.Bool("update", false, "write the index file in testdata again")

// pinned is an index file that every Docent from now on must read.
const pinned = "testdata/version1.index"

// testSite returns a site with all that a site can have.
func testSite() *docs.Site {
	text := "Führe `make` aus.\n\n```\n\tmake all\n```\n\n日本語 🎉"
	return &docs.Site{
		Language: "de", VersionPath: "/docs/{version}/", Versions: []string{"2.x", "1.x"}, DefaultVersion: "2.x",
		Model: "text-embedding-3-small", Dimensions: 4,
		Pages: []docs.Page{
			{
				URL: "https://docs.example.com/docs/1.x/start", Title: "Erste Schritte", Language: "de", Version: "1.x",
				Sections: []docs.Section{
					{Text: "Vor der ersten Überschrift."},
					{Anchor: "los geht’s", Headings: []string{"Bauen", "Los geht’s"}, Text: text, Pieces: []docs.Piece{
						{Start: 0, End: 8, Values: []int8{127, -127, 0, 1}, Scale: 1. / 127 / 1.5},
						{Start: 3, End: len(text)},
						{Start: len(text), End: len(text), Values: []int8{-1, 127, 3, 4}, Scale: 1. / 128},
					}},
				},
			},
			{URL: "http://localhost:3000/?page=2", Title: ""},
		},
	}
}

func write(tb testing.TB, s *docs.Site) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := docs.Write(&b, s); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestWrite_RoundTrip(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*docs.Site{"full": testSite(), "empty": {}, "no vectors": smallSite("one", 20)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := write(t, s)
			got, err := docs.Read(data)
			if diff := cmp.Diff(s, got); diff != "" || err != nil {
				t.Errorf("Read: %v; (-written +read)\n%s", err, diff)
			}
			if !bytes.Equal(data, write(t, s)) {
				t.Error("the same site became other bytes")
			}
		})
	}
}

func TestRead_Pinned(t *testing.T) {
	t.Parallel()
	if *update {
		if err := os.WriteFile(pinned, write(t, testSite()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(pinned)
	if err != nil {
		t.Fatal(err)
	}
	got, err := docs.Read(data)
	if diff := cmp.Diff(testSite(), got); diff != "" || err != nil {
		t.Errorf("Read: %v; (-want +got)\n%s", err, diff)
	}
	if first, _, _ := strings.Cut(string(data), "\n"); first != "docent index 1" {
		t.Errorf("the first line is %q", first)
	}
}

// sealed returns an index file with this content and the checksum that it should have.
func sealed(content []byte) []byte {
	return append(fmt.Appendf(nil, "docent index 1\n%x\n", sha256.Sum256(content)), content...)
}

// contentOf returns what stands below the two first lines.
func contentOf(data []byte) []byte { return bytes.SplitN(data, []byte("\n"), 3)[2] }

// packed compresses records and appends vectors.
func packed(vectors []byte, records ...[]byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	for _, r := range records {
		z.Write(binary.AppendUvarint(nil, uint64(len(r))))
		z.Write(r)
	}
	z.Close()
	return append(b.Bytes(), vectors...)
}

// head returns the record of a site without vectors.
func head(pages, size uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint([]byte{0, 0, 0, 0, 0, 0}, pages), size)
}

// page returns the record of a page with so many sections, and what follows.
func page(sections uint64, rest ...byte) []byte {
	return append(binary.AppendUvarint([]byte("\x09https://a\x00\x00\x00"), sections), rest...)
}

func TestRead_Refuses(t *testing.T) {
	t.Parallel()
	good := write(t, testSite())
	content := contentOf(good)
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	badGzip := bytes.Clone(packed(nil, head(0, 0)))
	badGzip[len(badGzip)-5] ^= 1
	tests := map[string]struct {
		data []byte
		want string
	}{
		"empty":                       {nil, "it is empty"},
		"HTML":                        {[]byte("\n<!DOCTYPE html><title>Not found</title>"), "it looks like text/html;"},
		"HTML without a doctype":      {[]byte("<html>"), "it looks like text/html;"},
		"XML":                         {[]byte("<?xml version='1.0'?><Error/>"), "it looks like text/xml;"},
		"text":                        {[]byte("Hello, wörld\n"), "it looks like text/plain;"},
		"gzip":                        {packed(nil), "it looks like application/x-gzip;"},
		"binary":                      {[]byte("\x7fELF\x00\x01"), "it looks like application/octet-stream;"},
		"another docent":              {[]byte("docent indexes 1\n"), "it looks like text/plain;"},
		"newer":                       {bytes.Replace(good, []byte("index 1\n"), []byte("index 2\n"), 1), "made by a newer Docent"},
		"version 0":                   {bytes.Replace(good, []byte("index 1\n"), []byte("index 0\n"), 1), "damaged"},
		"version in words":            {bytes.Replace(good, []byte("index 1\n"), []byte("index one\n"), 1), "damaged"},
		"cut in the first line":       {good[:5], "incomplete"},
		"cut in the version":          {good[:14], "incomplete"},
		"cut in the checksum":         {good[:40], "incomplete"},
		"cut in the middle":           {good[:len(good)/2], "incomplete or damaged"},
		"cut by a byte":               {good[:len(good)-1], "incomplete or damaged"},
		"a byte more":                 {append(bytes.Clone(good), 0), "incomplete or damaged"},
		"a bit of the checksum":       {flip(20), "damaged"},
		"a bit of the content":        {flip(len(good) - 1), "incomplete or damaged"},
		"a short checksum":            {[]byte("docent index 1\nabcd\n"), "checksum is wrong"},
		"too large":                   {append(bytes.Clone(good), make([]byte, docs.MaxCompressed)...), "more than 128 MB"},
		"no content":                  {sealed(nil), "damaged"},
		"not compressed":              {sealed([]byte("hello")), "damaged"},
		"cut vectors":                 {sealed(content[:len(content)-1]), "damaged"},
		"no vectors":                  {sealed(content[:len(content)-8]), "damaged"},
		"bytes after the vectors":     {sealed(append(bytes.Clone(content), 0)), "damaged"},
		"gzip's checksum":             {sealed(badGzip), "damaged"},
		"record after the last page":  {sealed(packed(nil, head(0, 0), []byte("x"))), "damaged"},
		"bytes after the head":        {sealed(packed(nil, append(head(0, 0), 0))), "damaged"},
		"bytes after a page":          {sealed(packed(nil, head(1, 15), page(0, 0))), "damaged"},
		"page of another size":        {sealed(packed(nil, head(1, 15), page(0))), "damaged"},
		"page larger than said":       {sealed(packed(nil, head(1, 13), page(0))), "damaged"},
		"page missing":                {sealed(packed(nil, head(1, 0))), "damaged"},
		"head of a megabyte":          {sealed(packed(nil, make([]byte, 1<<20))), "damaged"},
		"more sections than bytes":    {sealed(packed(nil, head(1, 16), page(200, 0))), "damaged"},
		"text longer than its record": {sealed(packed(nil, head(1, 16), page(1, 9, 0))), "damaged"},
		"number without an end":       {sealed(packed(nil, head(1, 20), page(0xFFFFFFFFFFFF))), "damaged"},
		"too many pages":              {sealed(packed(nil, head(10_000_000, 0))), "512 MB"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := docs.Read(tt.data)
			if err == nil || !strings.Contains(err.Error(), tt.want) || s != nil {
				t.Errorf("Read = %v, %v; want an error with %q", s, err, tt.want)
			}
			if err != nil && !strings.Contains(err.Error(), "`docent index`") && !strings.Contains(err.Error(), " MB") && !strings.Contains(err.Error(), "make the index again") {
				t.Errorf("%q does not say what to do", err)
			}
		})
	}
}

// TestRead_Bomb reads small files that would be large in memory.
func TestRead_Bomb(t *testing.T) { //nolint:paralleltest // It counts what the process allocates.
	const most = docs.MaxUnpacked
	zeros := make([]byte, 27<<20)
	// 33,000 pieces with vectors of 16,384 dimensions, none of which is there.
	pieces := append(page(1, 0, 0, 0), binary.AppendUvarint(nil, 33_000)...)
	pieces = append(pieces, bytes.Repeat([]byte{0, 0, 0, 0, 0, 0x3c}, 33_000)...)
	wide := binary.AppendUvarint([]byte("\x00\x00\x00\x01m\x00\x80\x80\x01\x01"), uint64(len(pieces)))
	tests := map[string]struct {
		data []byte
		want string
		most uint64 // In bytes.
	}{
		"that says its size": {sealed(packed(nil, head(1, most+1), zeros[:8<<20])), "512 MB", 1 << 20},
		"that lies":          {sealed(packed(nil, head(1, 100), zeros[:8<<20])), "damaged", 1 << 20},
		"behind a good page": {sealed(packed(nil, head(1, 14), page(0), zeros[:8<<20])), "damaged", 1 << 20},
		// A section takes four bytes in the file.
		"of sections":                    {sealed(packed(nil, head(1, uint64(len(zeros))+17), page(uint64(len(zeros)/4), zeros...))), "512 MB", 256 << 20},
		"of vectors":                     {sealed(packed(nil, wide, pieces)), "512 MB", 4 << 20},
		"of sections that are not there": {sealed(packed(nil, head(1, 17), page(6_000_000))), "damaged", 1 << 20},
		"length alone":                   {sealed(packed(nil, head(1, most-100), nil)[:20]), "damaged", 1 << 20},
		"claimed length":                 {sealed(claim(most - 100)), "damaged", 4 << 20},
	}
	for name, tt := range tests { //nolint:paralleltest // As above.
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := docs.Read(tt.data)
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Read of %d kB: %v, want an error with %q", len(tt.data)>>10, err, tt.want)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > tt.most {
				t.Errorf("Read of %d kB took %d MB of memory", len(tt.data)>>10, took>>20)
			}
		})
	}
}

// claim returns a content with a page that is said to be of n bytes.
func claim(n uint64) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	h := head(1, n)
	z.Write(append(binary.AppendUvarint(nil, uint64(len(h))), h...))
	z.Write(append(binary.AppendUvarint(nil, n-10), "https"...))
	z.Close()
	return b.Bytes()
}

// TestRead_Invalid changes bytes of good files, as [docs.Write] would not.
func TestRead_Invalid(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ old, fresh, want string }{
		"control character in a text":  {"the body", "the\x1bbody", "control characters"},
		"C1 control in a text":         {"the body", "the\u009bbod", "control characters"},
		"invalid UTF-8 in a text":      {"the body", "the bod\xff", "invalid UTF-8"},
		"control character in a title": {"the title", "the\x1btitle", "plain text in one line"},
		"line break in a heading":      {"the heading", "the\nheading", "plain text in one line"},
		"script for a URL":             {"https://a.example/", "javascript:alert()", "absolute https or http URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			record := []byte("\x12https://a.example/\x09the title\x00\x00\x01\x00\x08the body\x01\x0bthe heading\x00")
			intact := sealed(packed(nil, head(1, uint64(len(record))), record))
			if _, err := docs.Read(intact); err != nil {
				t.Fatal(err)
			}
			record = bytes.Replace(record, []byte(tt.old), []byte(tt.fresh), 1)
			_, err := docs.Read(sealed(packed(nil, head(1, uint64(len(record))), record)))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "make it again") {
				t.Errorf("Read: %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestWrite_Refuses(t *testing.T) {
	t.Parallel()
	inSection := func(change func(*docs.Section)) func(*docs.Site) {
		return func(s *docs.Site) { change(&s.Pages[0].Sections[1]) }
	}
	inPiece := func(change func(*docs.Piece)) func(*docs.Site) {
		return inSection(func(s *docs.Section) { change(&s.Pieces[0]) })
	}
	tests := map[string]struct {
		change func(*docs.Site)
		want   string
	}{
		"no URL":                    {func(s *docs.Site) { s.Pages[1].URL = "" }, "page 2 has no absolute"},
		"relative URL":              {func(s *docs.Site) { s.Pages[0].URL = "/start" }, "absolute"},
		"URL without a scheme":      {func(s *docs.Site) { s.Pages[0].URL = "//docs.example.com/start" }, "absolute"},
		"URL of a script":           {func(s *docs.Site) { s.Pages[0].URL = "javascript:alert(1)" }, "absolute"},
		"URL of a file":             {func(s *docs.Site) { s.Pages[0].URL = "file://host/etc/passwd" }, "absolute"},
		"URL without a host":        {func(s *docs.Site) { s.Pages[0].URL = "https:///start" }, "absolute"},
		"URL with a fragment":       {func(s *docs.Site) { s.Pages[0].URL += "#" }, "absolute"},
		"URL with a password":       {func(s *docs.Site) { s.Pages[0].URL = "https://me:secret@docs.example.com/" }, "absolute"},
		"URL with a control":        {func(s *docs.Site) { s.Pages[0].URL += "\u009b" }, "absolute"},
		"control in a language":     {func(s *docs.Site) { s.Pages[0].Language = "\a" }, "plain text"},
		"control in a version":      {func(s *docs.Site) { s.Pages[0].Version = "\x7f" }, "plain text"},
		"control in versions":       {func(s *docs.Site) { s.Versions[1] = "\r" }, "plain text"},
		"control in the model":      {func(s *docs.Site) { s.Model = "a\nb" }, "plain text"},
		"control in an anchor":      {inSection(func(s *docs.Section) { s.Anchor = "\x00" }), "section 2 of https://docs.example.com/docs/1.x/start has an anchor"},
		"invalid heading":           {inSection(func(s *docs.Section) { s.Headings[1] = "\xc3" }), "heading"},
		"carriage return in a text": {inSection(func(s *docs.Section) { s.Text += "\r" }), "control characters"},
		"model without a length":    {func(s *docs.Site) { s.Dimensions = 0 }, "do not fit"},
		"length without a model":    {func(s *docs.Site) { s.Model = "" }, "do not fit"},
		"negative length":           {func(s *docs.Site) { s.Dimensions = -4 }, "do not fit"},
		"immense length":            {func(s *docs.Site) { s.Dimensions = 1 << 15 }, "do not fit"},
		"vector too short":          {inPiece(func(p *docs.Piece) { p.Values = p.Values[1:] }), "wrong length"},
		"vector too long":           {inPiece(func(p *docs.Piece) { p.Values = append(p.Values, 0) }), "wrong length"},
		"scale without a vector":    {inPiece(func(p *docs.Piece) { p.Values = nil }), "wrong length"},
		"vector without a scale":    {inPiece(func(p *docs.Piece) { p.Scale = 0 }), "scale"},
		"negative scale":            {inPiece(func(p *docs.Piece) { p.Scale = -1 }), "scale"},
		"infinite scale":            {inPiece(func(p *docs.Piece) { p.Scale = float32(math.Inf(1)) }), "scale"},
		"NaN for a scale":           {inPiece(func(p *docs.Piece) { p.Scale = float32(math.NaN()) }), "scale"},
		"immense scale":             {inPiece(func(p *docs.Piece) { p.Scale = 1e30 }), "scale"},
		"vector of no model": {func(s *docs.Site) {
			s.Model, s.Dimensions = "", 0
			s.Pages[0].Sections[1].Pieces = []docs.Piece{{Values: []int8{}, Scale: 1}}
		}, "wrong length"},
		"piece before its text":  {inPiece(func(p *docs.Piece) { p.Start = -1 }), "not in its text"},
		"piece after its text":   {inPiece(func(p *docs.Piece) { p.End = 1000 }), "not in its text"},
		"piece from end to end":  {inPiece(func(p *docs.Piece) { p.Start, p.End = 5, 4 }), "not in its text"},
		"start inside of a rune": {inPiece(func(p *docs.Piece) { p.Start = 2 }), "not in its text"},
		"end inside of a rune":   {inPiece(func(p *docs.Piece) { p.End = 2 }), "not in its text"},
		"immense names":          {func(s *docs.Site) { s.Versions[0] = strings.Repeat("1", 64<<10) }, "64 kB"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testSite()
			tt.change(s)
			var b bytes.Buffer
			err := docs.Write(&b, s)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Write: %v, want an error with %q", err, tt.want)
			}
			if b.Len() > 0 {
				t.Errorf("Write has written %d bytes all the same", b.Len())
			}
		})
	}
}

func TestWrite_TooLarge(t *testing.T) {
	t.Parallel()
	s := &docs.Site{Model: "large", Dimensions: 1 << 14}
	piece := docs.Piece{Values: make([]int8, s.Dimensions), Scale: 1}
	section := docs.Section{Pieces: slices.Repeat([]docs.Piece{piece}, docs.MaxCompressed/s.Dimensions)}
	s.Pages = []docs.Page{{URL: "https://docs.example.com/", Sections: []docs.Section{section}}}
	var b bytes.Buffer
	if err := docs.Write(&b, s); err == nil || !strings.Contains(err.Error(), "128 MB") || b.Len() > 0 {
		t.Errorf("Write: %v and %d bytes, want an error with the bound", err, b.Len())
	}
}

// FuzzRead checks that a site that can be read can be used and written again. The
// checksum is put right, so that the fuzzer gets past it.
func FuzzRead(f *testing.F) {
	f.Add(contentOf(write(f, testSite())))
	f.Add(contentOf(write(f, smallSite("one", 3))))
	f.Add(contentOf(write(f, &docs.Site{})))
	f.Add([]byte("<!doctype html>"))
	f.Fuzz(func(t *testing.T, content []byte) {
		_, _ = docs.Read(content)
		s, err := docs.Read(sealed(content))
		if err != nil {
			return
		}
		for i := range s.Pages {
			p := &s.Pages[i]
			for k := range p.Sections {
				for _, piece := range p.Sections[k].Pieces {
					_ = docs.EmbeddedText(p, &p.Sections[k], piece)
					if piece.Values != nil && len(piece.Values) != s.Dimensions {
						t.Errorf("a vector of %d instead of %d", len(piece.Values), s.Dimensions)
					}
				}
			}
		}
		again, err := docs.Read(write(t, s))
		if diff := cmp.Diff(s, again); diff != "" || err != nil {
			t.Errorf("written and read again: %v\n%s", err, diff)
		}
	})
}

// smallSite returns a site without vectors. One of its sections has the word "guide";
// its URL ends with name.
func smallSite(name string, sections int) *docs.Site {
	first := docs.Page{URL: "https://docs.example.com/" + name, Title: "Guide", Sections: []docs.Section{{Text: "A guide to everything."}}}
	rest := docs.Page{URL: "https://docs.example.com/rest", Title: "Rest"}
	for i := range sections - 1 {
		rest.Sections = append(rest.Sections, docs.Section{Anchor: fmt.Sprint("s", i), Headings: []string{"Other"}, Text: "Something else."})
	}
	return &docs.Site{Language: "en", Pages: []docs.Page{first, rest}}
}

// largeSite returns a site with 10 sections of about 1.2 kB a page, and 1.4 pieces
// with vectors a section.
func largeSite(sections int) *docs.Site {
	random := rand.New(rand.NewPCG(1, 2))
	words := make([]string, 8000)
	for i := range words {
		word := make([]byte, 2+random.IntN(9))
		for k := range word {
			word[k] = byte('a' + random.IntN(26))
		}
		words[i] = string(word)
	}
	s := &docs.Site{Language: "en", Model: "text-embedding-3-small", Dimensions: 512}
	for i := range sections / 10 {
		p := docs.Page{URL: fmt.Sprint("https://docs.example.com/guides/", i), Title: "Guide"}
		for k := range 10 {
			var text strings.Builder
			for text.Len() < 1200 {
				text.WriteString(words[int(8000*random.Float64()*random.Float64()*random.Float64())] + " ")
			}
			section := docs.Section{Anchor: fmt.Sprint("section-", k), Headings: []string{"Guide", "Section"}, Text: text.String()}
			section.Pieces = make([]docs.Piece, 1+(k%5)/3)
			for n := range section.Pieces {
				v := make([]float32, 512)
				for d := range v {
					v[d] = float32(random.NormFloat64())
				}
				section.Pieces[n].End = 600
				section.Pieces[n].SetVector(v)
			}
			p.Sections = append(p.Sections, section)
		}
		s.Pages = append(s.Pages, p)
	}
	return s
}

func BenchmarkRead(b *testing.B) {
	for _, sections := range []int{600, 5000, 20000} {
		b.Run(fmt.Sprint(sections), func(b *testing.B) {
			data := write(b, largeSite(sections))
			b.ReportAllocs()
			b.ReportMetric(float64(len(data))/1e6, "MB")
			for b.Loop() {
				if _, err := docs.Read(data); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(data))/1e6, "MB")
		})
	}
}
