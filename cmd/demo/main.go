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
	setUp, done, err := prepare(ctx, environment)
	defer done()
	if err != nil {
		fmt.Fprintln(p.Stderr, err)
		return err
	}
	site, err := front(setUp.standIn)
	if err != nil {
		fmt.Fprintln(p.Stderr, err)
		return err
	}
	p.Environment = environment
	p.Front = site
	p.Listening = func(addr net.Addr) { greet(p.Stdout, addr, setUp.backend) }
	return app.Run(ctx, p)
}

// setting is what the demo shows.
type setting struct {
	backend string // In words.
	standIn bool   // OpenAI and ChatKit are stand-ins.
}

// prepare completes an environment with what is missing: an index of the site's own
// pages, and a stand-in for OpenAI. done ends and removes them; it is never nil.
func prepare(ctx context.Context, environment map[string]string) (s setting, done func(), err error) {
	var undo []func()
	done = func() {
		for _, u := range undo {
			u()
		}
	}
	hosted := environment["CHATKIT_WORKFLOW_ID"] != ""
	if !hosted && environment["DOCS_INDEX"] == "" && environment["VECTOR_STORE_ID"] == "" {
		if environment["PORT"], err = freePort(ctx, environment["PORT"]); err != nil {
			return s, done, err
		}
		file, remove, err := ownIndex(ctx, environment["PORT"])
		if err != nil {
			return s, done, err
		}
		undo = append(undo, remove)
		environment["DOCS_INDEX"] = file
	}
	if environment["OPENAI_API_KEY"] != "" {
		return setting{backend: "the real OpenAI, with your OPENAI_API_KEY"}, done, nil
	}
	url, stop, err := standin.NewOpenAI(standInKey, standInWorkflow).Listen()
	if err != nil {
		return s, done, err
	}
	undo = append(undo, func() { _ = stop() }) // The process ends.
	environment["OPENAI_BASE_URL"] = url
	environment["OPENAI_API_KEY"] = standInKey
	if hosted {
		environment["CHATKIT_WORKFLOW_ID"] = standInWorkflow
		return setting{"a stand-in for OpenAI's hosted workflows; set OPENAI_API_KEY, too, for the real one", true}, done, nil
	}
	return setting{"Docent itself, with a stand-in for OpenAI that quotes the docs; set OPENAI_API_KEY for a real model", true}, done, nil
}

// freePort chooses the port of an address that leaves it open: the links in the index
// must name it.
func freePort(ctx context.Context, address string) (string, error) {
	if !strings.HasSuffix(address, ":0") {
		return address, nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return "", err //nolint:wrapcheck // It names the address.
	}
	return l.Addr().String(), l.Close()
}

func greet(w io.Writer, addr net.Addr, backend string) {
	fmt.Fprintf(w, "\n  Docent demo:  http://localhost:%d\n  Backend:      %s\n  Stop:         Ctrl-C\n\n", addr.(*net.TCPAddr).Port, backend) //nolint:errcheck,forcetypeassert // We listen on TCP.
}
