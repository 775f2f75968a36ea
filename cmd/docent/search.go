package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"docent/internal/app"
	"docent/internal/docs"
	"docent/internal/redact"
)

// maxFound is the most sections that a search may ask for.
const maxFound = 100

// A found section as `docent search --json` prints it.
type found struct {
	URL      string   `json:"url"`
	Title    string   `json:"title"`
	Headings []string `json:"headings"`
	Score    float64  `json:"score"`
}

func runSearch(ctx context.Context, p app.Process, args []string) error {
	a := newArguments("search")
	location := a.String("index", "", "")
	page := a.String("page", "", "")
	language := a.String("language", "", "")
	n := a.Int("n", 10, "")
	asJSON := a.Bool("json", false, "")
	words, err := a.parse(args, 0, -1)
	if err != nil {
		return err
	}
	question := strings.TrimSpace(strings.Join(words, " "))
	switch {
	case question == "":
		return argumentsError("there is no question")
	case *n < 1 || *n > maxFound:
		return argumentsError(fmt.Sprintf("-n must be from 1 to %d", maxFound))
	}
	index, done, err := load(ctx, p, *location)
	if err != nil {
		return err
	}
	defer done()
	result, err := index.Search(ctx, docs.Query{Question: question, Page: *page, Languages: *language}, *n)
	if err != nil {
		return err
	}
	withoutVectors(p, result.WithoutVectors)
	if *asJSON {
		return writeFound(p.Stdout, result.Passages)
	}
	if len(result.Passages) == 0 {
		fmt.Fprintln(p.Stdout, "Nothing found.")
	}
	for i, passage := range result.Passages {
		if i > 0 {
			fmt.Fprintln(p.Stdout)
		}
		fmt.Fprintf(p.Stdout, "%2d  %.4f  %s\n", i+1, passage.Score, redact.OneLine(strings.Join(append([]string{passage.Title}, passage.Headings...), " > ")))
		for _, line := range append([]string{redact.OneLine(passage.URL)}, excerpt(passage.Text)...) {
			fmt.Fprintf(p.Stdout, "    %s\n", line)
		}
	}
	return nil
}

// withoutVectors says why a search did not use the vectors that the index has.
func withoutVectors(p app.Process, err error) {
	switch {
	case errors.Is(err, docs.ErrNoEmbedder):
		fmt.Fprintln(p.Stderr, "docent: searched by words alone, because OPENAI_API_KEY is not set")
	case err != nil:
		fmt.Fprintln(p.Stderr, "docent: searched by words alone:", redact.OneLine(err.Error()))
	}
}

func writeFound(w io.Writer, passages []docs.Passage) error {
	list := []found{}
	for _, passage := range passages {
		f := found{URL: redact.OneLine(passage.URL), Title: redact.OneLine(passage.Title), Headings: []string{}, Score: passage.Score}
		for _, h := range passage.Headings {
			f.Headings = append(f.Headings, redact.OneLine(h))
		}
		list = append(list, f)
	}
	return writeJSON(w, list)
}

// writeJSON writes a value in one line.
func writeJSON(w io.Writer, value any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // URLs stay readable.
	if err := enc.Encode(value); err != nil {
		return fmt.Errorf("writing the output: %w", err)
	}
	return nil
}

// Two lines of an excerpt fit a terminal of 80 columns, with the indent.
const (
	excerptWidth = 75
	excerptLines = 2
)

// excerpt returns the beginning of a passage, in lines.
func excerpt(text string) []string {
	var lines []string
	rest := []rune(redact.OneLine(text))
	for len(rest) > excerptWidth && len(lines) < excerptLines {
		end := excerptWidth // Of a word that is too long, or of a script without spaces.
		for i := range excerptWidth {
			if rest[i] == ' ' {
				end = i
			}
		}
		lines = append(lines, string(rest[:end]))
		rest = []rune(strings.TrimLeft(string(rest[end:]), " "))
	}
	switch {
	case len(lines) == excerptLines:
		lines[excerptLines-1] += " …"
	case len(rest) > 0:
		lines = append(lines, string(rest))
	}
	return lines
}
