// Yardstick has the servers that Docent is compared with. Each does the least that
// the job takes.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"

	"github.com/go-chi/chi/v5"
)

func main() {
	proxy := flag.String("proxy", "", "be a reverse proxy to this URL")
	file := flag.String("answer", "", "be a chi handler that always gives the answer in this file")
	flag.Parse()
	handler := answer
	if *proxy != "" {
		handler, file = reverseProxy, proxy
	}
	h, err := handler(*file)
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // It opens at once.
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("{\"message\":\"listening\",\"address\":%q}\n", l.Addr())
	log.Fatal((&http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}).Serve(l))
}

// reverseProxy keeps as many idle connections as Docent: with the default of two
// it would mostly measure handshakes.
func reverseProxy(to string) (http.Handler, error) {
	target, err := url.Parse(to)
	if err != nil {
		return nil, fmt.Errorf("-proxy: %w", err)
	}
	return &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: &http.Transport{MaxIdleConns: 256, MaxIdleConnsPerHost: 256, ForceAttemptHTTP2: true},
	}, nil
}

// answer always gives an answer that Docent gave.
func answer(file string) (http.Handler, error) {
	var a struct {
		Status int
		Header http.Header
		Body   []byte
	}
	recorded, err := os.ReadFile(file) //nolint:gosec // The caller names it.
	if err != nil {
		return nil, fmt.Errorf("-answer: %w", err)
	}
	if err := json.Unmarshal(recorded, &a); err != nil {
		return nil, fmt.Errorf("-answer: %w", err)
	}
	a.Header.Del("Date")
	r := chi.NewRouter()
	r.HandleFunc("/*", func(w http.ResponseWriter, _ *http.Request) {
		for name, values := range a.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(a.Status)
		w.Write(a.Body) //nolint:errcheck // The client may have gone.
	})
	return r, nil
}
