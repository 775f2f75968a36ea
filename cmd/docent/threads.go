package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"docent/internal/app"
	"docent/internal/chatkit"
	"docent/internal/config"
	"docent/internal/firestore"
	"docent/internal/redact"
)

// threadVariables are what reading conversations needs of the environment.
var threadVariables = []string{
	"GOOGLE_CLOUD_PROJECT", "FIRESTORE_DATABASE", "FIRESTORE_EMULATOR_HOST", "RATE_LIMIT_STORE", "THREADS_KEEP", "K_SERVICE", "CLOUD_RUN_JOB",
}

// maxAsked is the most questions that `docent threads` may be asked for.
const maxAsked = 10_000

// An asked question as `docent threads --json` prints it. It does not say who asked.
type asked struct {
	Time     time.Time `json:"time"`
	Question string    `json:"question"`
	Answer   string    `json:"answer"`
	Feedback string    `json:"feedback,omitempty"`
	Sources  []string  `json:"sources"`
}

// wanted are the values of --feedback.
var wanted = map[string]func(asked) bool{
	"":          func(asked) bool { return true },
	"positive":  func(q asked) bool { return q.Feedback == string(chatkit.Positive) },
	"negative":  func(q asked) bool { return q.Feedback == string(chatkit.Negative) },
	"no-source": func(q asked) bool { return q.Answer != "" && len(q.Sources) == 0 },
}

func runThreads(ctx context.Context, p app.Process, args []string) error {
	a := newArguments("threads")
	feedback := a.String("feedback", "", "")
	since := a.String("since", "7d", "")
	n := a.Int("n", 100, "")
	asJSON := a.Bool("json", false, "")
	if _, err := a.parse(args, 0, 0); err != nil {
		return err
	}
	wants, known := wanted[*feedback]
	age, err := parseAge(*since)
	switch {
	case !known:
		return argumentsError("--feedback must be positive, negative or no-source")
	case err != nil:
		return argumentsError("--since must be an age such as 7d, 36h or 30m")
	case *n < 1 || *n > maxAsked:
		return argumentsError(fmt.Sprintf("-n must be from 1 to %d", maxAsked))
	}
	store, c, err := openThreads(ctx, p)
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // The process ends.

	start := time.Now().Add(-min(age, c.ThreadsKeep)) // An older conversation has expired.
	printed := 0
	var unwritten error
	unreadable, err := store.Recent(ctx, start, func(t chatkit.Thread) bool {
		for _, q := range slices.Backward(questions(t)) {
			if printed == *n || unwritten != nil {
				return false
			}
			if q.Time.Before(start) || !wants(q) {
				continue
			}
			printed++
			if *asJSON {
				unwritten = writeJSON(p.Stdout, q)
			} else {
				printAsked(p, q, printed > 1)
			}
		}
		return unwritten == nil
	})
	if err != nil {
		return err
	}
	if unwritten != nil {
		return unwritten
	}
	switch printed {
	case *n:
		fmt.Fprintf(p.Stderr, "docent: these are the newest %d, there may be more: see -n\n", printed)
	case 0:
		fmt.Fprintln(p.Stderr, "docent: no such question was asked in that time")
	}
	if unreadable > 0 {
		fmt.Fprintf(p.Stderr, "docent: %d conversations could not be read: check that nothing but Docent writes to the collections named threads\n", unreadable)
	}
	return nil
}

// openThreads opens the Firestore that the service keeps conversations in.
func openThreads(ctx context.Context, p app.Process) (*firestore.Client, config.Config, error) {
	c, err := config.LoadSome(p.Environment, threadVariables...)
	if err != nil {
		return nil, c, err
	}
	if p.Environment["RATE_LIMIT_STORE"] == config.Memory {
		return nil, c, errors.New("RATE_LIMIT_STORE is memory: the conversations are in the service's memory alone, and nothing can read them there")
	}
	c.Store = config.Firestore
	if c, err = app.WithProject(ctx, c); err != nil {
		return nil, c, err
	}
	if c.Project == "" {
		return nil, c, argumentsError("GOOGLE_CLOUD_PROJECT is not set: it names the project of the service")
	}
	store, err := app.OpenStore(ctx, c)
	return store, c, err
}

// questions returns what was asked in a thread, each with what was answered.
func questions(t chatkit.Thread) []asked {
	var all []asked
	for _, item := range t.Items {
		switch m := item.(type) {
		case *chatkit.UserMessage:
			all = append(all, asked{Time: m.Created.Time, Question: m.Text(), Sources: []string{}})
		case *chatkit.AssistantMessage:
			if len(all) > 0 {
				answered(&all[len(all)-1], m)
			}
		}
	}
	return all
}

// answered adds an answer to its question.
func answered(q *asked, m *chatkit.AssistantMessage) {
	q.Answer += m.Text()
	q.Feedback = cmp.Or(string(m.Feedback), q.Feedback)
	for _, c := range m.Content {
		for _, a := range c.Annotations {
			if !slices.Contains(q.Sources, a.Source.URL) {
				q.Sources = append(q.Sources, a.Source.URL)
			}
		}
	}
}

func printAsked(p app.Process, q asked, more bool) {
	if more {
		fmt.Fprintln(p.Stdout)
	}
	fmt.Fprintln(p.Stdout, strings.TrimSpace(q.Time.UTC().Format("2006-01-02 15:04")+"  "+q.Feedback))
	for _, line := range excerpt(q.Question) {
		fmt.Fprintf(p.Stdout, "    %s\n", line)
	}
	for i, line := range excerpt(cmp.Or(q.Answer, "(not answered)")) {
		fmt.Fprintf(p.Stdout, "%s %s\n", []string{"  →", "   "}[min(i, 1)], line)
	}
	for _, url := range q.Sources {
		fmt.Fprintf(p.Stdout, "    %s\n", redact.OneLine(url))
	}
}

// parseAge reads a duration, which may be in days.
func parseAge(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 1 || n > 3650 {
			return 0, errors.New("not a number of days")
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	age, err := time.ParseDuration(text)
	if err == nil && age <= 0 {
		err = errors.New("not positive")
	}
	return age, err
}
