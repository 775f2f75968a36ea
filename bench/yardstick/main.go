// Yardstick has the servers beside which Docent is measured, and the stand-in
// behind both. Each is the least that does the job, in a process of its own.
package main

import (
	"bufio"
	"bytes"
	"flag"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"

	"github.com/go-chi/chi/v5"
)

func main() {
	var (
		listen = flag.String("listen", "127.0.0.1:0", "the address to serve on")
		proxy  = flag.String("proxy", "", "be a reverse proxy to this URL")
		like   = flag.String("answer", "", "be a chi handler that gives everybody the answer in this file")
		bare   = flag.Bool("bare", false, "without its headers")
		delay  = flag.Duration("delay", 0, "else be OpenAI, and take so long to answer")
		cert   = flag.String("cert", "", "over TLS, with this certificate")
		key    = flag.String("key", "", "and its key")
		http1  = flag.Bool("http1", false, "without HTTP/2")
	)
	flag.Parse()
	var handler http.Handler
	switch {
	case *proxy != "":
		handler = reverseProxy(*proxy)
	case *like != "":
		handler = answer(*like, *bare)
	default:
		handler = openAI(*delay)
	}
	srv := &http.Server{Addr: *listen, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	if *http1 {
		srv.Protocols = new(http.Protocols)
		srv.Protocols.SetHTTP1(true)
	}
	if *cert == "" {
		log.Fatal(srv.ListenAndServe())
	}
	log.Fatal(srv.ListenAndServeTLS(*cert, *key))
}

// reverseProxy has Docent's number of idle connections: with the default of two
// it would mostly measure handshakes.
func reverseProxy(to string) http.Handler {
	target, err := url.Parse(to)
	if err != nil {
		log.Fatal(err)
	}
	return &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: &http.Transport{MaxIdleConns: 256, MaxIdleConnsPerHost: 256, ForceAttemptHTTP2: true},
	}
}

// answer says what Docent has said, without working for it.
func answer(file string, bare bool) http.Handler {
	raw, err := os.ReadFile(file) //nolint:gosec // Whoever starts this names it.
	if err != nil {
		log.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), nil) //nolint:bodyclose // It is in memory.
	if err != nil {
		log.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	resp.Header.Del("Date")
	if bare {
		resp.Header = http.Header{"Content-Type": resp.Header["Content-Type"]}
	}
	r := chi.NewRouter()
	r.HandleFunc("/*", func(w http.ResponseWriter, _ *http.Request) {
		for name, values := range resp.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(resp.StatusCode)
		w.Write(body) //nolint:errcheck // Whoever left gets nothing.
	})
	return r
}

// session never expires as far as Docent is concerned: making it fresh would
// be the stand-in's work, not what is measured.
const session = `{"id":"cksess_bench","object":"chatkit.session","client_secret":"ek_bench_0123456789abcdef0123456789abcdef",` +
	`"expires_at":4000000000,"workflow":{"id":"wf_bench"},"user":"bench","max_requests_per_1_minute":10,"status":"active"}` + "\n"

func openAI(delay time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) //nolint:errcheck // It is small.
		time.Sleep(delay)
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, session) //nolint:errcheck // Whoever left gets nothing.
	})
}
