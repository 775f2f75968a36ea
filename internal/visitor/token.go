package visitor

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"time"
)

// purpose says what a token is for. It is the beginning of the token and covered
// by the MAC, so a token for one purpose is never accepted for another, although
// all are signed with one key.
type purpose string

const (
	// forCookie is for the visitor's cookie.
	forCookie purpose = "vc_"
	// forPage is for the visitor token, which a page keeps in its storage.
	forPage purpose = "vt_"
	// forSession is for the session token, which opens the chat.
	forSession purpose = "ds_"
)

// token names a visitor for a time. It is written as
//
//	<purpose><visitor's ID>.<issued>.<expires>.<MAC>
//
// with the times in Unix seconds. The MAC is HMAC-SHA256 over everything before
// it, in unpadded base64url. It is compared as text, so that each token has
// exactly one spelling. Where the token is for one page, a line break and the
// page's origin follow in the text of the MAC, but not in the token.
type token struct {
	purpose         purpose
	id              string // Without a dot.
	issued, expires time.Time
	origin          string // Empty where any page may use the token.
}

// seal returns the token in writing.
func (t token) seal(key []byte) string {
	text := make([]byte, 0, 128) // More than any of ours.
	text = append(append(text, t.purpose...), t.id...)
	text = strconv.AppendInt(append(text, '.'), t.issued.Unix(), 10)
	text = strconv.AppendInt(append(text, '.'), t.expires.Unix(), 10)
	return string(append(append(text, '.'), sign(key, text, t.origin)...))
}

// open returns the ID in a token that was sealed with the key for this purpose and
// this origin, and has not expired.
func open(key []byte, p purpose, origin, sealed string, now time.Time) (id string, ok bool) {
	dot := strings.LastIndexByte(sealed, '.')
	if dot < 0 || !hmac.Equal([]byte(sealed[dot+1:]), []byte(sign(key, []byte(sealed[:dot]), origin))) {
		return "", false
	}
	rest, ok := strings.CutPrefix(sealed[:dot], string(p))
	fields := strings.Split(rest, ".")
	if !ok || len(fields) != 3 {
		return "", false
	}
	expires, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil || now.Unix() >= expires {
		return "", false
	}
	return fields[0], true
}

// sign returns the MAC of a text and, where there is one, of an origin.
func sign(key, text []byte, origin string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write(text)
	if origin != "" {
		mac.Write([]byte("\n" + origin))
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
