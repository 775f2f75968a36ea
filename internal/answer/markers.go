package answer

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"docent/internal/chatkit"
)

// The control characters of a citation marker: begin, "cite", and for each source a
// separator and an ID or a part of a file; then end.
const (
	markerBegin     = '\uE200'
	markerEnd       = '\uE201'
	markerSeparator = '\uE202'
)

// The characters of an older kind of marker, such as 【4:0†page.md】. Some models
// write it although they are not told to.
const (
	oldBegin     = '【'
	oldSeparator = '†'
	oldEnd       = '】'
)

// maxMarker is how many characters a marker has at most between begin and end.
const maxMarker = 200

// oldID matches the ID of an older marker that some tool of OpenAI's has given.
var oldID = regexp.MustCompile(`^([0-9]+:)?[0-9]+$`)

// output takes what a [filter] lets through. [chatkit.Answer] is one.
type output interface {
	// Write adds text. It is not called with an empty text.
	Write(text string) error
	// Cite adds a source at the end of what was written so far.
	Cite(source chatkit.URLSource) error
}

// filter turns a model's text into text for visitors: it takes markers out and cites
// their sources where they stood. The result does not depend on how the text is cut
// into deltas.
//
// It holds back what may be a marker, which is at most maxMarker characters. Sources
// that it does not know are not cited, and a source is cited once at one place. A
// marker that does not end is text without its control characters, which never get
// out. Neither does U+FFFD, which stands for a character that was broken on the way.
type filter struct {
	out output
	// sources are what may be cited, by the IDs in markers.
	sources map[string]chatkit.URLSource

	text   []byte   // Not yet written.
	held   []rune   // What may be a marker, from its begin on.
	cited  []string // The URLs cited at this place.
	seen   bool     // There was visible text.
	passed int      // How many citations were passed on.
}

// add takes the next delta of the text.
func (f *filter) add(delta string) error {
	for _, r := range delta {
		if err := f.next(r); err != nil {
			return err
		}
	}
	return f.flush()
}

// end takes the end of the text. A marker that has been cut off there is dropped.
func (f *filter) end() error {
	for len(f.held) > 0 {
		if err := f.giveUp(); err != nil {
			return err
		}
	}
	return f.flush()
}

func (f *filter) next(r rune) error {
	marker := len(f.held) > 0 && f.held[0] == markerBegin
	switch {
	case r == utf8.RuneError:
		return nil
	case r == markerBegin:
		for len(f.held) > 0 {
			if err := f.giveUp(); err != nil {
				return err
			}
		}
		f.held = append(f.held, r)
		return nil
	case marker && r == markerEnd:
		return f.citeMarker()
	case marker:
		f.held = append(f.held, r)
		if len(f.held) > 1+maxMarker {
			return f.release()
		}
		return nil
	case r == markerEnd, r == markerSeparator:
		return nil
	case len(f.held) > 0:
		return f.nextOld(r)
	case r == oldBegin:
		f.held = append(f.held, r)
		return nil
	default:
		f.show(r)
		return nil
	}
}

// nextOld takes a character after the begin of what may be an older marker.
func (f *filter) nextOld(r rune) error {
	named := slices.Contains(f.held, oldSeparator)
	switch {
	case len(f.held) > maxMarker, r == oldBegin, r == '\n', !named && r != oldSeparator && !inID(r):
		if err := f.release(); err != nil {
			return err
		}
		return f.next(r)
	case named && r == oldEnd:
		id, _, _ := strings.Cut(string(f.held[1:]), string(oldSeparator))
		if _, known := f.sources[id]; !known && !oldID.MatchString(id) {
			f.held = append(f.held, r)
			return f.release()
		}
		f.held = f.held[:0]
		return f.cite(id)
	default:
		f.held = append(f.held, r)
		return nil
	}
}

// citeMarker cites the sources of the marker that is held, which is whole.
func (f *filter) citeMarker() error {
	fields := strings.Split(string(f.held[1:]), string(markerSeparator))
	f.held = f.held[:0]
	for _, id := range fields { // The word "cite" and parts of files are not known.
		if err := f.cite(strings.TrimSpace(id)); err != nil {
			return err
		}
	}
	return nil
}

func (f *filter) cite(id string) error {
	source, known := f.sources[id]
	if !known || slices.Contains(f.cited, source.URL) {
		return nil
	}
	if err := f.flush(); err != nil {
		return err
	}
	f.cited = append(f.cited, source.URL)
	f.passed++
	return f.out.Cite(source)
}

// giveUp takes what is held out of the text if it can only be a part of a marker.
// Else it is text.
func (f *filter) giveUp() error {
	if f.unfinished() {
		f.held = f.held[:0]
		return nil
	}
	return f.release()
}

// unfinished reports whether what is held can only be a part of a marker.
func (f *filter) unfinished() bool {
	content := string(f.held[1:])
	if f.held[0] == oldBegin {
		id, _, named := strings.Cut(content, string(oldSeparator))
		return named && oldID.MatchString(id)
	}
	kind, ids, named := strings.Cut(content, string(markerSeparator))
	if !named {
		return strings.HasPrefix("cite", kind) || strings.HasPrefix("filecite", kind)
	}
	return !strings.ContainsFunc(kind+ids, func(r rune) bool { return r != markerSeparator && !inID(r) })
}

// release makes text of what is held. All but its first character is read again: there
// may be an older marker in it.
func (f *filter) release() error {
	held := f.held
	f.held = nil
	if held[0] == oldBegin {
		f.show(oldBegin)
	}
	for _, r := range held[1:] {
		if err := f.next(r); err != nil {
			return err
		}
	}
	return nil
}

// show adds a visible character.
func (f *filter) show(r rune) {
	f.text = utf8.AppendRune(f.text, r)
	f.cited = f.cited[:0]
	f.seen = f.seen || !unicode.IsSpace(r)
}

// flush writes the visible text that there is.
func (f *filter) flush() error {
	if len(f.text) == 0 {
		return nil
	}
	text := string(f.text)
	f.text = f.text[:0]
	return f.out.Write(text)
}

// inID reports whether a character may stand in a marker's ID.
func inID(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == ':'
}
