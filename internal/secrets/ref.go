package secrets

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
)

const (
	// scheme starts a reference.
	scheme = "sm://"
	// latest is the version that a reference without one names.
	latest = "latest"
	// maxName is the longest name of a secret, in bytes.
	maxName = 255
	// redacted is what a secret prints as.
	redacted = "[redacted]"
)

// What Secret Manager and Resource Manager allow. A project's ID may have the
// prefix of a domain, as old ones do. It may be shorter than Google's minimum of 6
// characters, for stand-ins.
var (
	projects = regexp.MustCompile(`^(([a-z0-9.-]+:)?[a-z]([a-z0-9-]{0,28}[a-z0-9])?|[1-9][0-9]{0,18})$`)
	names    = regexp.MustCompile(`^[A-Za-z0-9_-]+$`) // Up to maxName: {1,255} would cost every start 0.7 ms.
	versions = regexp.MustCompile(`^[1-9][0-9]{0,17}$`)
)

// The syntax faults. Each continues a sentence that begins with the variable's
// name. None quotes the value, which may be a secret in the wrong place.
var (
	errBlank   = errors.New("must not be blank")
	errScheme  = errors.New("must be written sm://NAME or sm://PROJECT/NAME if it is meant as a secret reference")
	errProject = errors.New("must be sm://PROJECT/NAME with a project's ID (lowercase letters, digits and hyphens, a letter first) or its number")
	errName    = errors.New("must be sm://NAME or sm://PROJECT/NAME with a name of 1 to 255 letters, digits, hyphens and underscores")
	errVersion = errors.New("must end in #VERSION with a version's number, or in #latest, or in neither; a version's alias is not supported")
)

// errNoProject is a fault of a configuration as a whole: no variable sets the
// project of a short reference.
var errNoProject = errors.New("it has no project: set GOOGLE_CLOUD_PROJECT, or write sm://PROJECT/NAME")

// Ref is what a configuration variable holds: a literal, or a reference to a
// secret in Secret Manager. The zero Ref is a variable that is not set.
//
// A reference is sm://NAME or sm://PROJECT/NAME, either followed by #VERSION: a
// version's number, or latest, which is also what no version means. An alias of
// a version is refused: it looks pinned, but can be moved to another version.
//
// A Ref that holds a literal prints as [redacted], one that holds a reference
// prints as itself.
type Ref struct { //nolint:recvcheck // UnmarshalText must change it, printing must not need a pointer.
	// literal is a pointer because fmt calls no methods on a value in another
	// struct's unexported field. Of a pointer there it prints the address alone.
	literal *string

	// Of a reference. The project is empty in the short form, the version for latest.
	project, name, version string
	header                 bool // See ForHeader.
}

// UnmarshalText parses the value of a variable. Its errors say what would be right
// and never contain the value. White space around a reference is ignored. So are
// newlines at the end of a literal, as [Open] ignores them in stored secrets.
func (r *Ref) UnmarshalText(text []byte) error {
	value := string(text)
	ref := strings.TrimSpace(value)
	rest, isRef := strings.CutPrefix(ref, scheme)
	switch {
	case value == "":
		*r = Ref{}
		return nil
	case isRef:
		return r.parse(rest)
	// No real secret begins like this, and a mistyped reference must not be sent to
	// OpenAI as a key.
	case len(ref) >= 3 && strings.EqualFold(ref[:3], "sm:"),
		strings.HasPrefix(ref, "projects/") && strings.Contains(ref, "/secrets/"):
		return errScheme
	}
	literal, ok := clean(value)
	if !ok {
		return errBlank
	}
	*r = Ref{literal: &literal}
	return nil
}

// parse sets r to a reference, given without its scheme.
func (r *Ref) parse(rest string) error {
	name, version, hasVersion := strings.Cut(rest, "#")
	project, long, isLong := strings.Cut(name, "/")
	if isLong {
		name = long
	} else {
		project = ""
	}
	switch {
	case isLong && !projects.MatchString(project):
		return errProject
	case len(name) > maxName || !names.MatchString(name):
		return errName
	case version == latest:
		version = ""
	case hasVersion && !versions.MatchString(version):
		return errVersion
	}
	*r = Ref{project: project, name: name, version: version}
	return nil
}

// clean returns a secret without the newlines at its end: echo and editors add
// them, which is the most common mistake. It reports whether anything but white
// space is left.
func clean(secret string) (value string, ok bool) {
	return strings.TrimRight(secret, "\r\n"), strings.TrimSpace(secret) != ""
}

// IsZero reports whether the variable is not set.
func (r Ref) IsZero() bool { return r == Ref{} }

// Literal returns the secret itself where the variable holds it.
func (r Ref) Literal() (secret string, ok bool) {
	if r.literal == nil {
		return "", false
	}
	return *r.literal, true
}

// Pinned reports whether the value can never change: it is a literal, or a
// reference with a version's number.
func (r Ref) Pinned() bool { return r.literal != nil || r.version != "" }

// Project returns the project of a reference. It is empty for a literal, and for
// the short form until [Ref.WithProject] sets it.
func (r Ref) Project() string { return r.project }

// Name returns the name of the secret in its project. It is empty for a literal.
func (r Ref) Name() string { return r.name }

// Version returns the number of the version that a pinned reference names. It is
// empty for a literal, and for a reference that follows the latest version.
func (r Ref) Version() string { return r.version }

// NeedsProject reports whether this is a reference in its short form, which
// leaves the project to [Ref.WithProject].
func (r Ref) NeedsProject() bool { return r.name != "" && r.project == "" }

// WithProject returns the reference with the project given, if it has none of
// its own. Anything else stays as it is.
func (r Ref) WithProject(project string) Ref {
	if r.NeedsProject() {
		r.project = project
	}
	return r
}

// ForHeader returns the reference to a secret that is sent in an HTTP header. If
// no header can carry what is stored, by [HeaderFault], then [Open] fails, and a
// later lookup keeps the last good secret. A literal and the zero Ref stay as
// they are.
func (r Ref) ForHeader() Ref {
	r.header = r.name != ""
	return r
}

// Equal reports whether two variables hold the same, whatever it is for.
func (r Ref) Equal(other Ref) bool {
	r.header = other.header
	a, aLiteral := r.Literal()
	b, bLiteral := other.Literal()
	if aLiteral && bLiteral {
		return a == b
	}
	return r == other
}

// String returns the reference, or [redacted] for a literal.
func (r Ref) String() string {
	switch {
	case r.literal != nil:
		return redacted
	case r.name == "":
		return ""
	}
	s := scheme
	if r.project != "" {
		s += r.project + "/"
	}
	s += r.name
	if r.version != "" {
		s += "#" + r.version
	}
	return s
}

// Format implements [fmt.Formatter], which takes precedence over the other ways to
// print.
func (r Ref) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.String()) }

// MarshalText implements [encoding.TextMarshaler], for JSON among others.
func (r Ref) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// LogValue implements [slog.LogValuer].
func (r Ref) LogValue() slog.Value { return slog.StringValue(r.String()) }
