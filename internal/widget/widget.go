// Package widget is the script that a docs page embeds, and how it is served.
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

// representation is the script in one encoding. A strong ETag names the very
// bytes, so each has its own.
type representation struct {
	body []byte
	etag string
}

func represent(body []byte) representation {
	sum := sha256.Sum256(body)
	return representation{body, `"` + hex.EncodeToString(sum[:16]) + `"`}
}

type representations struct{ identity, gzip representation }

// encoded waits for the first request, so that a cold start does not pay for
// the compression.
var encoded = sync.OnceValue(func() representations {
	var compressed bytes.Buffer
	// Neither the level nor a buffer in memory can be at fault.
	w, _ := gzip.NewWriterLevel(&compressed, gzip.BestCompression)
	_, _ = w.Write(script)
	_ = w.Close()
	return representations{represent(script), represent(compressed.Bytes())}
})

// Handler serves the script, to any page: what it holds is public, and whether
// a page gets a session is decided where it asks for one. It has no ranges,
// which nobody needs of a few kilobytes: http.ServeContent, which would add
// them, copies the script for every answer.
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "public, max-age=300, stale-while-revalidate=86400")
		h.Set("Vary", "Accept-Encoding")
		// For a page under Cross-Origin-Embedder-Policy, and for one whose tag has
		// the attribute crossorigin.
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
		_, _ = w.Write(is.body) // Fails where the visitor left.
	})
}

// matches reads If-None-Match (RFC 9110, 13.1.2), whose comparison is weak: a
// proxy may have marked our ETag so.
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

// acceptsGzip reads Accept-Encoding (RFC 9110, 12.5.3): gzip counts where it is
// named, else `*` does, and a weight of 0 refuses. A weight that is no number
// refuses, too: everybody understands the script as it is.
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
