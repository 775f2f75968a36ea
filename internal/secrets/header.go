package secrets

import (
	"strings"

	"golang.org/x/net/http/httpguts"
)

// HeaderFault returns what in a secret does not belong in an HTTP header, such as
// "a line break", or nothing. It reports never if net/http refuses to send such a
// header; anything else may be on purpose, for a gateway. The text quotes nothing
// of the secret.
func HeaderFault(secret string) (found string, never bool) {
	notPrintable := func(r rune) bool { return r < '!' || r > '~' }
	switch {
	case strings.ContainsAny(secret, "\r\n"):
		return "a line break", true
	case !httpguts.ValidHeaderFieldValue(secret):
		return "a control character", true
	case strings.ContainsAny(secret, " \t"):
		return "a space", false
	case strings.ContainsFunc(secret, notPrintable):
		return "a character that is not printable ASCII", false
	case strings.ContainsAny(secret, "\"'"):
		return "a quotation mark", false
	}
	return "", false
}
