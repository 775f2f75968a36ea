package check

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Status is how a check ended.
type Status string

// The ways a check ends.
const (
	// OK: it works. There may be notes.
	OK Status = "ok"
	// Fail: something must be done, and the detail says what.
	Fail Status = "fail"
	// Skipped: it could not be checked, or need not be; the detail says why.
	Skipped Status = "skipped"
)

// Result is the result of one check.
type Result struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	// Detail is what was found or, of a failure, what is wrong and how to fix it.
	Detail string `json:"detail"`
	// Faults are the things that are wrong, where there are several.
	Faults []string `json:"faults,omitempty"`
	// Notes are further remarks. They are not failures.
	Notes []string `json:"notes,omitempty"`
}

// Report has the results of all checks, always in the same order.
type Report struct {
	Version string
	Checks  []Result
}

func ok(format string, args ...any) Result {
	return Result{Status: OK, Detail: fmt.Sprintf(format, args...)}
}

func fail(format string, args ...any) Result {
	return Result{Status: Fail, Detail: fmt.Sprintf(format, args...)}
}

func skipped(format string, args ...any) Result {
	return Result{Status: Skipped, Detail: fmt.Sprintf(format, args...)}
}

// note adds to a result.
func (r *Result) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// verdict is the result of a check that may find several things at once.
func verdict(detail string, faults, notes []string) Result {
	switch len(faults) {
	case 0:
		return Result{Status: OK, Detail: detail, Notes: notes}
	case 1:
		return Result{Status: Fail, Detail: faults[0], Notes: notes}
	default:
		return Result{Status: Fail, Detail: fmt.Sprintf("%d faults:", len(faults)), Faults: faults, Notes: notes}
	}
}

// OK reports whether nothing failed.
func (r Report) OK() bool { return r.count(Fail) == 0 }

func (r Report) count(s Status) int {
	n := 0
	for _, c := range r.Checks {
		if c.Status == s {
			n++
		}
	}
	return n
}

// Summary is the report in one sentence.
func (r Report) Summary() string {
	return fmt.Sprintf("docent check: %d ok, %d failed, %d skipped", r.count(OK), r.count(Fail), r.count(Skipped))
}

// WriteText writes a report for a person: a line for each check, with its faults
// and notes below.
func (r Report) WriteText(w io.Writer) error {
	const status = len(Skipped)
	name := 0
	for _, c := range r.Checks {
		name = max(name, len(c.Name))
	}
	var b strings.Builder
	for _, c := range r.Checks {
		word := string(c.Status)
		if c.Status == Fail {
			word = strings.ToUpper(word) // To be seen at once.
		}
		fmt.Fprintf(&b, "%-*s  %-*s  %s\n", status, word, name, c.Name, c.Detail)
		for _, f := range c.Faults {
			fmt.Fprintf(&b, "%*s- %s\n", status+2+name+2, "", f)
		}
		for _, n := range c.Notes {
			fmt.Fprintf(&b, "%*snote: %s\n", status+2+name+2, "", n)
		}
	}
	fmt.Fprintf(&b, "\n%s\n", r.Summary())
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// WriteJSON writes a report for a machine: one object in one line. Severity and
// message are where Cloud Logging looks for them, so that a job's log shows a
// failed check as an error.
func (r Report) WriteJSON(w io.Writer) error {
	object := struct {
		Severity string   `json:"severity"`
		Message  string   `json:"message"`
		OK       bool     `json:"ok"`
		Version  string   `json:"version"`
		Checks   []Result `json:"checks"`
	}{"INFO", r.Summary(), r.OK(), r.Version, r.Checks}
	if !r.OK() {
		object.Severity = "ERROR"
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // Commands and URLs stay readable.
	if err := enc.Encode(object); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}
