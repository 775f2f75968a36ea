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

// forCookie is the purpose of the token in the visitor's cookie.
const forCookie purpose = "vc_"

// token names a visitor for a time. It is written as
//
//	<purpose><visitor's ID>.<issued>.<expires>.<MAC>
//
// with the times in Unix seconds. The MAC is HMAC-SHA256 over everything before
// it, in unpadded base64url. It is compared as text, so that each token has
// exactly one spelling.
type token struct {
	purpose         purpose
	id              string // Without a dot.
	issued, expires time.Time
}

// seal returns the token in writing.
func (t token) seal(key []byte) string {
	text := make([]byte, 0, 128) // More than any of ours.
	text = append(append(text, t.purpose...), t.id...)
	text = strconv.AppendInt(append(text, '.'), t.issued.Unix(), 10)
	text = strconv.AppendInt(append(text, '.'), t.expires.Unix(), 10)
	return string(append(append(text, '.'), sign(key, text)...))
}

// open returns the ID in a token that was sealed with the key for this purpose
// and has not expired.
func open(key []byte, p purpose, sealed string, now time.Time) (id string, ok bool) {
	dot := strings.LastIndexByte(sealed, '.')
	if dot < 0 || !hmac.Equal([]byte(sealed[dot+1:]), []byte(sign(key, []byte(sealed[:dot])))) {
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

func sign(key, text []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write(text)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
