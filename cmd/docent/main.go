// Docent gives each visitor of a docs site a short-lived ChatKit session. It is
// configured only by environment variables: docs/configuration.md lists them.
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"docent/internal/app"
	"docent/internal/check"
)

// The version and the commit of a release. Its build sets them with
// -ldflags "-X main.version=v1.2.3 -X main.revision=4bf92f3".
var version, revision string

func main() { os.Exit(run(os.Args[1:])) }

// run returns the exit status: 1 for a failure that has been reported, 2 for
// unknown arguments.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop) // A second signal ends the process at once.
	switch strings.Join(args, " ") {
	case "":
		if app.Run(ctx, app.OS()) != nil {
			return 1
		}
	case "check":
		return checked(ctx, check.Report.WriteText)
	case "check --json":
		return checked(ctx, check.Report.WriteJSON)
	case "help", "--help", "-h":
		fmt.Print(usage)
	case "check --help", "check -h", "help check":
		fmt.Print(checkUsage)
	case "version":
		version, revision := build()
		fmt.Printf("docent %s, revision %s, %s\n", version, revision, runtime.Version())
	default:
		fmt.Fprint(os.Stderr, usageOf(args))
		return 2
	}
	return 0
}

// checked runs the check and writes its report to standard output. LOG_FORMAT does
// not apply: the report is not a log.
func checked(ctx context.Context, write func(check.Report, io.Writer) error) int {
	version, _ := build()
	report := check.Run(ctx, check.Options{Environment: app.OS().Environment, Version: version})
	if err := write(report, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "docent:", err)
		return 1
	}
	if !report.OK() {
		return 1
	}
	return 0
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
