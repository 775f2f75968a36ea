// Demo is Docent with a small docs site in front and, unless real values are
// given, a stand-in for OpenAI behind: it needs no key and no account. With -write
// it writes the site's pages into a folder instead, as a generator would.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"docent/internal/app"
	"docent/internal/standin"
)

const (
	standInKey      = "sk-demo-not-a-real-key"
	standInWorkflow = "wf_demo"
)

func main() {
	folder := flag.String("write", "", "write the docs site as HTML into this `folder`, and end")
	flag.Parse()
	if *folder != "" {
		if err := write(*folder); err != nil {
			fmt.Fprintln(os.Stderr, "demo:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop) // A second signal ends the process at once.
	if err := run(ctx, app.OS()); err != nil {
		os.Exit(1)
	}
}

// run is the service with defaults that work on one machine. Whatever the
// environment says takes precedence over them.
func run(ctx context.Context, p app.Process) error {
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
		environment["PORT"] = "127.0.0.1:" + port // A demo is only for this machine.
	}
	backend := "the real OpenAI, with your OPENAI_API_KEY"
	hosted := environment["CHATKIT_WORKFLOW_ID"] != ""
	docs := environment["DOCS_INDEX"] != "" || environment["VECTOR_STORE_ID"] != ""
	standIn := environment["OPENAI_API_KEY"] == "" || !hosted && !docs
	if standIn {
		url, stop, err := standin.NewOpenAI(standInKey, standInWorkflow).Listen()
		if err != nil {
			fmt.Fprintln(p.Stderr, err)
			return err
		}
		defer stop() //nolint:errcheck // The process ends.
		environment["OPENAI_BASE_URL"] = url
		environment["OPENAI_API_KEY"] = standInKey
		if hosted {
			backend = "a stand-in for OpenAI's hosted workflows; set OPENAI_API_KEY, too, for the real one"
			environment["CHATKIT_WORKFLOW_ID"] = standInWorkflow
		} else {
			backend = "Docent itself, which repeats each question; set OPENAI_API_KEY and CHATKIT_WORKFLOW_ID for a workflow"
			environment["DOCS_INDEX"] = "docs.index" // Nothing reads it yet.
		}
	}
	site, err := front(standIn)
	if err != nil {
		fmt.Fprintln(p.Stderr, err)
		return err
	}
	p.Environment = environment
	p.Front = site
	p.Listening = func(addr net.Addr) { greet(p.Stdout, addr, backend) }
	return app.Run(ctx, p)
}

func greet(w io.Writer, addr net.Addr, backend string) {
	fmt.Fprintf(w, "\n  Docent demo:  http://localhost:%d\n  Backend:      %s\n  Stop:         Ctrl-C\n\n", addr.(*net.TCPAddr).Port, backend) //nolint:errcheck,forcetypeassert // We listen on TCP.
}
