// Docent hands each visitor of a docs site a short-lived ChatKit session. It
// is configured by environment variables alone: README.md lists them.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"docent/internal/service"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "docent takes no arguments: it is configured by the environment variables that README.md lists")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop) // A second signal ends the process at once.
	if service.Run(ctx, service.OS()) != nil {
		os.Exit(1)
	}
}
