// Hello is a Go server as small as they come: what Docent's cold start is
// measured against.
package main

import (
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("hello\n")) }) //nolint:errcheck // A yardstick.
	http.ListenAndServe(os.Args[1], nil)                                                              //nolint:errcheck,gosec // It ends with a signal.
}
