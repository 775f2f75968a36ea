package main

import (
	"context"

	"docent/internal/app"
	"docent/internal/check"
)

// runCheck writes the report to standard output. LOG_FORMAT does not apply: the
// report is not a log.
func runCheck(ctx context.Context, p app.Process, args []string) error {
	a := newArguments("check")
	asJSON := a.Bool("json", false, "")
	if _, err := a.parse(args, 0, 0); err != nil {
		return err
	}
	write := check.Report.WriteText
	if *asJSON {
		write = check.Report.WriteJSON
	}
	version, _ := build()
	report := check.Run(ctx, check.Options{Environment: p.Environment, Version: version})
	if err := write(report, p.Stdout); err != nil {
		return err
	}
	if !report.OK() {
		return errReported
	}
	return nil
}
