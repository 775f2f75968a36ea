package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"

	"docent/internal/app"
	"docent/internal/config"
	"docent/internal/docs"
	"docent/internal/openai"
	"docent/internal/redact"
	"docent/internal/secrets"
)

// An argumentsError says what is wrong with a command's arguments.
type argumentsError string

func (e argumentsError) Error() string { return string(e) }

// arguments are a command's flags. Their help is in the command's usage.
type arguments struct{ *flag.FlagSet }

func newArguments(name string) arguments {
	a := arguments{flag.NewFlagSet(name, flag.ContinueOnError)}
	a.SetOutput(io.Discard)
	return a
}

// oneHyphen finds how the flag package writes the name of a flag.
var oneHyphen = regexp.MustCompile(`(defined: |argument: |flag )-(\w\w)`)

// parse returns the arguments that are not flags: from least to most, or any number
// if most is -1. Flags may stand before and after them; what follows -- is none.
func (a arguments) parse(args []string, least, most int) ([]string, error) {
	var rest []string
	for {
		err := a.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			return nil, err //nolint:wrapcheck // A sign for main.
		}
		if err != nil {
			return nil, argumentsError(oneHyphen.ReplaceAllString(redact.OneLine(err.Error()), "$1--$2"))
		}
		left := a.Args()
		ended := len(left) < len(args) && args[len(args)-len(left)-1] == "--"
		if ended || len(left) == 0 {
			rest = append(rest, left...)
			break
		}
		rest, args = append(rest, left[0]), left[1:]
	}
	switch {
	case len(rest) < least:
		return nil, argumentsError("something is missing after " + a.Name())
	case most >= 0 && len(rest) > most:
		return nil, argumentsError("there is too much after " + a.Name() + ": " + redact.OneLine(rest[most]))
	}
	return rest, nil
}

// isSet reports whether a flag was given.
func (a arguments) isSet(name string) bool {
	set := false
	a.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// openAIVariables are what the commands that may call OpenAI read of the
// environment. Serving needs more.
var openAIVariables = []string{"OPENAI_API_KEY", "OPENAI_BASE_URL", "GOOGLE_CLOUD_PROJECT", "SECRET_MANAGER_EMULATOR_HOST", "K_SERVICE", "CLOUD_RUN_JOB"}

// openAI returns a client for the API key that the environment has, or nil if it has
// none. The caller calls done.
func openAI(ctx context.Context, p app.Process) (client *openai.Client, done func(), err error) {
	done = func() {}
	if p.Environment["OPENAI_API_KEY"] == "" {
		return nil, done, nil
	}
	c, err := config.LoadSome(p.Environment, openAIVariables...)
	if err != nil {
		return nil, done, err
	}
	if c, err = app.WithProject(ctx, c); err != nil {
		return nil, done, err
	}
	var key secrets.Value
	source, err := app.OpenSecrets(ctx, c, slog.New(slog.DiscardHandler),
		secrets.Want{Variable: "OPENAI_API_KEY", Ref: c.APIKey.WithProject(c.Project), Into: &key})
	if err != nil {
		return nil, done, err
	}
	client = app.NewOpenAI(c, key)
	return client, func() {
		client.Close()
		_ = source.Close() // The process ends.
	}, nil
}

// load returns the index that a command searches: that of --index, else that of
// DOCS_INDEX. The caller calls done.
func load(ctx context.Context, p app.Process, location string) (index *docs.Index, done func(), err error) {
	if location == "" {
		location = p.Environment["DOCS_INDEX"]
	}
	if location == "" {
		return nil, nil, argumentsError("there is no index: name one with --index, or set DOCS_INDEX")
	}
	site, err := docs.Load(ctx, location)
	if err != nil {
		return nil, nil, err
	}
	client, done, err := openAI(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	if client == nil {
		return docs.NewIndex(site, nil), done, nil
	}
	return docs.NewIndex(site, client), done, nil
}

// flagList is a flag that takes a list, separated by commas.
type flagList []string

func (l *flagList) String() string { return strings.Join(*l, ",") }

// Set implements [flag.Value].
func (l *flagList) Set(text string) error {
	for value := range strings.SplitSeq(text, ",") {
		if value = strings.TrimSpace(value); value == "" || slices.Contains(*l, value) {
			return errors.New("a value is empty or stands twice")
		}
		*l = append(*l, strings.TrimSpace(value))
	}
	return nil
}
