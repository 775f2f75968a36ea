// Package app is one running Docent of one configuration: it opens the parts,
// connects them, serves and closes. The service and the demo differ only in what
// they put around it, and `docent check` opens the parts as the service does.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"cloud.google.com/go/compute/metadata"
	"google.golang.org/grpc/grpclog"

	"docent/internal/config"
	"docent/internal/logging"
	"docent/internal/server"
)

// Process is the service's surroundings.
type Process struct {
	Environment    map[string]string
	Stdout, Stderr io.Writer
	// Front wraps the service's handler, if set.
	Front func(http.Handler) http.Handler
	// Listening is called with the address as soon as the port is open, if set.
	Listening func(net.Addr)
}

// OS returns the real surroundings.
func OS() Process {
	environment := map[string]string{}
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		environment[name] = value
	}
	return Process{Environment: environment, Stdout: os.Stdout, Stderr: os.Stderr}
}

// Run serves until ctx ends and the requests in flight are answered. It has already
// reported the error that it returns.
func Run(ctx context.Context, p Process) error {
	c, err := config.Load(p.Environment)
	log := logging.New(p.Stdout, c.LogFormat, c.LogLevel)
	slog.SetDefault(log)                                                         // Takes what libraries write to the standard logger, too.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard)) // gRPC's log repeats what calls return.
	if err == nil {
		err = run(ctx, p, c, log)
	}
	switch {
	case err == nil:
	case ctx.Err() != nil: // Told to stop while starting, which is not a failure.
		return nil //nolint:nilerr // As said.
	case c.LogFormat == "json":
		log.Error("docent: " + err.Error())
	default:
		fmt.Fprintln(p.Stderr, "docent:", err)
	}
	return err
}

func run(ctx context.Context, p Process, c config.Config, log *slog.Logger) error {
	c, err := WithProject(ctx, c)
	if err != nil {
		return err
	}
	parts, err := openParts(ctx, c, log)
	if err != nil {
		return err
	}
	defer parts.close(log)
	handler, err := parts.connect(answersEnd(ctx), c, log)
	if err != nil {
		return err
	}
	if p.Front != nil {
		handler = p.Front(handler)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Address())
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("something else listens on %s already: set PORT to another port", c.Address())
	}
	if err != nil {
		return fmt.Errorf("opening the port: %w", err)
	}
	if p.Listening != nil {
		p.Listening(l.Addr())
	}
	log.Info("listening", "address", l.Addr().String(), "store", c.Store, "origins", c.AllowedOrigins.String())
	if err := server.Serve(ctx, l, handler, c.RequestTimeout, log); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

// answerDrain is how long answers that are being written may go on after the signal
// to stop. What is left of the server's 9 s is for storing what was said.
const answerDrain = 6 * time.Second

// answersEnd returns a context that ends answerDrain after ctx.
func answersEnd(ctx context.Context) context.Context {
	ended, end := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { time.AfterFunc(answerDrain, end) })
	return ended
}

// metadataTimeout bounds a question to the metadata server, which is on the
// same machine.
const metadataTimeout = 2 * time.Second

// WithProject returns the configuration with its project. On Cloud Run it asks the
// metadata server for a project that is not set; a failure is an error only where
// more than the log needs the project.
func WithProject(ctx context.Context, c config.Config) (config.Config, error) {
	if c.Project != "" || !c.OnCloudRun {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	project, err := metadata.ProjectIDWithContext(ctx)
	if err != nil && c.NeedsProject() {
		return c, fmt.Errorf("asking the metadata server for the project (or set GOOGLE_CLOUD_PROJECT): %w", err)
	}
	c.Project = project
	return c, nil
}
