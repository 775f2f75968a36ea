// Docent answers the visitors of a docs site: it serves the site's chat, and indexes
// and searches the site's text. It is configured only by environment variables:
// docs/configuration.md lists them.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"docent/internal/app"
	"docent/internal/redact"
)

// The version and the commit of a release. Its build sets them with
// -ldflags "-X main.version=v1.2.3 -X main.revision=4bf92f3".
var version, revision string

// A command is one of the program's. Its error is [errReported], [flag.ErrHelp], an
// [argumentsError], or one to print.
type command struct {
	usage string
	run   func(ctx context.Context, p app.Process, args []string) error
}

var commands = map[string]command{
	"check":   {checkUsage, runCheck},
	"index":   {indexUsage, runIndex},
	"search":  {searchUsage, runSearch},
	"ask":     {askUsage, runAsk},
	"eval":    {evalUsage, runEval},
	"threads": {threadsUsage, runThreads},
	"version": {usage, printVersion},
}

// errReported is a failure that the output says already.
var errReported = errors.New("reported")

func main() { os.Exit(run(app.OS(), os.Args[1:])) }

// run returns the exit status: 1 for a failure that has been reported, 2 for wrong
// arguments.
func run(p app.Process, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop) // A second signal ends the process at once.
	if len(args) == 0 {
		if app.Run(ctx, p) != nil {
			return 1
		}
		return 0
	}
	if args[0] == "help" {
		args = append(args[1:], "--help") // Of a command, if one is named.
	}
	c, known := commands[args[0]]
	if known {
		args = args[1:]
	} else {
		c = command{usage, noCommand}
	}
	err := c.run(ctx, p, args)
	var wrong argumentsError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(p.Stdout, c.usage) //nolint:errcheck // Nothing is left to do.
		return 0
	case errors.As(err, &wrong):
		fmt.Fprintf(p.Stderr, "%s\ndocent: %s\n", c.usage, wrong)
		return 2
	case errors.Is(err, errReported):
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintln(p.Stderr, "docent: interrupted")
	default:
		fmt.Fprintln(p.Stderr, "docent:", err)
	}
	return 1
}

// noCommand is for arguments that do not begin with a command.
func noCommand(_ context.Context, _ app.Process, args []string) error {
	if len(args) == 1 && (args[0] == "--help" || args[0] == "-h") {
		return flag.ErrHelp
	}
	return argumentsError("there is no command " + redact.OneLine(args[0]))
}

func printVersion(_ context.Context, p app.Process, args []string) error {
	if _, err := newArguments("version").parse(args, 0, 0); err != nil {
		return err
	}
	version, revision := build()
	fmt.Fprintf(p.Stdout, "docent %s, revision %s, %s\n", version, revision, runtime.Version())
	return nil
}

// build returns the version and revision that the build has set, or else those
// that Go has recorded.
func build() (string, string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return cmp.Or(version, "unknown"), cmp.Or(revision, "unknown")
	}
	var vcs string
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			vcs = s.Value
		}
	}
	return cmp.Or(version, info.Main.Version, "unknown"), cmp.Or(revision, vcs, "unknown")
}
