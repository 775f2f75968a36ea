// Package widget contains and serves the script that a docs page embeds.
package widget

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

//go:embed widget.js
var script []byte

// representation is the script in one encoding. Each has its own strong ETag, which
// identifies the exact bytes.
type representation struct {
	body []byte
	etag string
}

func represent(body []byte) representation {
	sum := sha256.Sum256(body)
	return representation{body, `"` + hex.EncodeToString(sum[:16]) + `"`}
}

type representations struct{ identity, gzip representation }

// encoded compresses the script at the first request, so that it does not slow a
// cold start.
var encoded = sync.OnceValue(func() representations {
	var compressed bytes.Buffer
	// The level is valid and a write to a bytes.Buffer does not fail.
	w, _ := gzip.NewWriterLevel(&compressed, gzip.BestCompression)
	_, _ = w.Write(script)
	_ = w.Close()
	return representations{represent(script), represent(compressed.Bytes())}
})

// Handler serves the script to any page: its content is public, and the session
// handler decides whether a page gets a session. It does not support range requests,
// which a few kilobytes do not need. http.ServeContent would support them, but it
// copies the script for every response.
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "public, max-age=300, stale-while-revalidate=86400")
		h.Set("Vary", "Accept-Encoding")
		// For pages with Cross-Origin-Embedder-Policy, and for tags with the attribute
		// crossorigin.
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
		h.Set("Access-Control-Allow-Origin", "*")
		is, gzipped := encoded().identity, acceptsGzip(r.Header.Values("Accept-Encoding"))
		if gzipped {
			is = encoded().gzip
		}
		h.Set("ETag", is.etag)
		if matches(r.Header.Values("If-None-Match"), is.etag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		if gzipped {
			h.Set("Content-Encoding", "gzip")
		}
		h.Set("Content-Type", "text/javascript; charset=utf-8")
		h.Set("Content-Length", strconv.Itoa(len(is.body)))
		_, _ = w.Write(is.body) // Fails if the visitor has left.
	})
}

// matches reports whether If-None-Match has the ETag (RFC 9110, 13.1.2). The
// comparison is weak, because a proxy may have turned the ETag into a weak one.
func matches(values []string, etag string) bool {
	for _, value := range values {
		for element := range strings.SplitSeq(value, ",") {
			element = strings.TrimSpace(element)
			if element == "*" || strings.TrimPrefix(element, "W/") == etag {
				return true
			}
		}
	}
	return false
}

// acceptsGzip reports whether Accept-Encoding allows gzip (RFC 9110, 12.5.3). An
// element for gzip takes precedence over `*`, and a weight of 0 refuses. A weight
// that is not a number refuses, too, because every client accepts the script without
// an encoding.
func acceptsGzip(values []string) bool {
	var named, others, isNamed bool
	for _, value := range values {
		for element := range strings.SplitSeq(value, ",") {
			coding, parameter, weighted := strings.Cut(element, ";")
			wanted := !weighted || positive(parameter)
			switch strings.ToLower(strings.TrimSpace(coding)) {
			case "gzip":
				named, isNamed = wanted, true
			case "*":
				others = wanted
			}
		}
	}
	if isNamed {
		return named
	}
	return others
}

// positive reports whether a parameter is a weight above 0.
func positive(parameter string) bool {
	name, value, _ := strings.Cut(parameter, "=")
	q, err := strconv.ParseFloat(value, 64)
	return strings.EqualFold(strings.TrimSpace(name), "q") && err == nil && q > 0
}
