package httpapi

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

var (
	// W3C Trace Context: version, trace ID, parent span ID, flags; a later
	// version may append more.
	traceparent = regexp.MustCompile(`^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?$`)
	// Google's older header: trace ID in hex, span ID in decimal, options.
	cloudTrace = regexp.MustCompile(`^([0-9a-fA-F]{32})(?:/([0-9]{1,20}))?(?:;.*)?$`)

	noTrace, noSpan = strings.Repeat("0", 32), strings.Repeat("0", 16)
)

// traceOf returns the ID of the request's trace and, if there is one, the ID of its
// span in hex. A request without a valid trace gets a random ID. With the ID that a
// visitor reports, an operator finds the request in Cloud Logging.
func traceOf(h http.Header) (trace, span string) {
	if m := traceparent.FindStringSubmatch(h.Get("Traceparent")); m != nil {
		future := m[1] != "00" && m[1] != "ff"
		if (m[1] == "00" && m[4] == "" || future) && m[2] != noTrace && m[3] != noSpan {
			return m[2], m[3]
		}
	}
	if m := cloudTrace.FindStringSubmatch(h.Get("X-Cloud-Trace-Context")); m != nil {
		if id := strings.ToLower(m[1]); id != noTrace {
			if n, err := strconv.ParseUint(m[2], 10, 64); err == nil && n != 0 {
				span = fmt.Sprintf("%016x", n)
			}
			return id, span
		}
	}
	b := make([]byte, 16)
	rand.Read(b) // It never fails: crypto/rand ends the process instead.
	return hex.EncodeToString(b), ""
}
