// Demo is Docent with a docs page in front and, unless real values are given,
// a stand-in for OpenAI behind: it needs no key and no account.
package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"docent/internal/service"
	"docent/internal/testkit"
)

//go:embed page.html
var page []byte

const (
	standInKey      = "sk-demo-not-a-real-key"
	standInWorkflow = "wf_demo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop) // A second signal ends the process at once.
	if err := run(ctx, service.OS()); err != nil {
		os.Exit(1)
	}
}

// run is the service with defaults that work on one machine. Whatever the
// environment says goes before them.
func run(ctx context.Context, p service.Process) error {
	environment := map[string]string{
		"PORT":            "127.0.0.1:8787",
		"ALLOWED_ORIGINS": "http://localhost:*,http://127.0.0.1:*",
	}
	for name, value := range p.Environment {
		if value != "" { // Set to nothing counts as not set.
			environment[name] = value
		}
	}
	if port := environment["PORT"]; !strings.Contains(port, ":") {
		environment["PORT"] = "127.0.0.1:" + port // A demo is nobody else's business.
	}
	backend := "the real OpenAI, with your OPENAI_API_KEY and CHATKIT_WORKFLOW_ID"
	if environment["OPENAI_API_KEY"] == "" || environment["CHATKIT_WORKFLOW_ID"] == "" {
		backend = "a stand-in for OpenAI; set OPENAI_API_KEY and CHATKIT_WORKFLOW_ID for the real one"
		url, stop, err := testkit.NewOpenAI(standInKey, standInWorkflow).Listen()
		if err != nil {
			fmt.Fprintln(p.Stderr, err)
			return err //nolint:wrapcheck // It says all.
		}
		defer stop() //nolint:errcheck // The process ends.
		environment["OPENAI_BASE_URL"] = url
		environment["OPENAI_API_KEY"] = standInKey
		environment["CHATKIT_WORKFLOW_ID"] = standInWorkflow
	}
	p.Environment = environment
	p.Front = front
	p.Listening = func(addr net.Addr) { greet(p.Stdout, addr, backend) }
	return service.Run(ctx, p) //nolint:wrapcheck // It has been reported.
}

func greet(w io.Writer, addr net.Addr, backend string) {
	fmt.Fprintf(w, "\n  Docent demo:  http://localhost:%d\n  Backend:      %s\n  Stop:         Ctrl-C\n\n", addr.(*net.TCPAddr).Port, backend) //nolint:errcheck,forcetypeassert // We listen on TCP.
}

// front puts the docs page before the service.
func front(docent http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" || r.Method != http.MethodGet {
			docent.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(page) //nolint:errcheck // A reader who left misses nothing.
	})
}
