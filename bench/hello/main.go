// Hello is a minimal Go server: the yardstick for Docent's cold start.
package main

import (
	"fmt"
	"net"
	"net/http"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("hello\n")) }) //nolint:errcheck // A yardstick.
	l, _ := net.Listen("tcp", "127.0.0.1:0")                                                          //nolint:noctx // It opens at once.
	fmt.Printf("{\"message\":\"listening\",\"address\":%q}\n", l.Addr())
	http.Serve(l, nil) //nolint:errcheck,gosec // It ends with a signal.
}
