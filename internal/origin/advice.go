package origin

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// advice says what is wrong with an entry and what would be right. Its pieces are
// the parts of the entry that it quotes. They are kept apart because an entry may be
// a key in the wrong variable, of which the log must not contain any part.
type advice struct {
	format string
	pieces []any
}

func advise(format string, pieces ...any) error { return &advice{format, pieces} }

func (a *advice) Error() string { return fmt.Sprintf(a.format, a.pieces...) }

// withoutPieces returns the same advice with a … for each piece.
func (a *advice) withoutPieces() error {
	hidden := make([]any, len(a.pieces))
	for i := range hidden {
		hidden[i] = "…"
	}
	return &advice{a.format, hidden}
}

// faultOf names an entry by its number, and also by its text if that is clearly an
// origin.
func faultOf(number int, entry string, err error) error {
	if quotable(entry) {
		return fmt.Errorf("entry %d, %q: %w", number, entry, err)
	}
	var a *advice
	if errors.As(err, &a) {
		err = a.withoutPieces()
	}
	return fmt.Errorf("entry %d: %w", number, err)
}

// These are compiled when they are first needed: a list without faults needs none,
// and they would cost every start 0.2 ms.
var (
	// plain matches an http or https origin, even an invalid one: a host, a port and a
	// few characters after it. It does not match a user, and a key can only be in the
	// host.
	plain = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)^https?://([\pL\pN.*_-]+|\[[0-9a-f:.*]+\])(:[0-9*]{0,6})?([/\\?#][^@]{0,7})?$`)
	})
	// prefixed matches text that starts like OpenAI's keys, client secrets and sessions.
	prefixed = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)(^|[^a-z0-9])(sk|ek|sess)[-_][a-z0-9_-]{8}`)
	})
	// runs matches text that is as long as other keys. It is only a key if it has a
	// digit.
	runs = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`[0-9A-Za-z_-]{32,}|[0-9A-Za-z_]{20,}`)
	})
)

// quotable reports whether a message may quote an entry.
func quotable(entry string) bool {
	return entry == "" || entry == "*" || plain().MatchString(entry) && !credential(entry)
}

// credential reports whether a text looks like a key or a token, or contains one.
func credential(text string) bool {
	if len(text) < len("sk-")+8 { // Shorter than anything below matches.
		return false
	}
	if prefixed().MatchString(text) {
		return true
	}
	for _, run := range runs().FindAllString(text, -1) {
		if strings.ContainsAny(run, "0123456789") {
			return true
		}
	}
	return false
}
