// Quality measures how well the search finds, on real docs sites and questions that
// were written before any result was seen: by words alone, by vectors alone, and by
// both. With -speed it measures how fast the search is and what memory it takes.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"docent/internal/docs"
	"docent/internal/openai"
)

const usage = `usage: quality [-misses] INDEX QUESTIONS…    INDEX and QUESTIONS in turn
       quality -speed INDEX…`

var errUsage = errors.New(usage)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	base := flag.String("embeddings", "http://127.0.0.1:8399/v1", "base URL of the embeddings API")
	misses := flag.Bool("misses", false, "name the questions without a right section among the first ten")
	speed := flag.Bool("speed", false, "measure speed and memory, with a large site made of the indexes' sections")
	one := flag.Bool("one", false, "measure speed and memory of one index: -speed starts a process for each")
	flag.Parse()
	var err error
	switch {
	case *one && flag.NArg() == 1:
		err = measureOne(ctx, flag.Arg(0))
	case *speed && flag.NArg() > 0:
		err = measureSpeed(ctx, flag.Args())
	case flag.NArg() > 0 && flag.NArg()%2 == 0:
		err = measureQuality(ctx, *base, flag.Args(), *misses)
	default:
		err = errUsage
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "quality:", err)
		os.Exit(1)
	}
}

// key is what the stand-in for the embeddings API takes. It takes any.
type key struct{}

func (key) Get() string { return "sk-test" }

func (key) Renew(context.Context, string) (string, bool) { return "", false }

// measureQuality prints a table for pairs of an index and a file of questions.
func measureQuality(ctx context.Context, base string, pairs []string, misses bool) error {
	client := openai.New(openai.Options{BaseURL: base, APIKey: key{}, Now: time.Now})
	defer client.Close()
	var missed strings.Builder
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "site\tsections\tquestions\tsearch\trecall at 1\tat 5\tat 10\tMRR")
	for ; len(pairs) > 0; pairs = pairs[2:] {
		site, err := docs.Load(ctx, pairs[0])
		if err != nil {
			return err
		}
		questions, err := read(pairs[1], site)
		if err != nil {
			return err
		}
		fused := docs.NewIndex(site, client)
		if fused.Vectors() == 0 {
			return fmt.Errorf("%s has no vectors", pairs[0])
		}
		searches := []struct {
			name    string
			index   *docs.Index
			vectors bool
		}{
			{"words", docs.NewIndex(site, nil), false},
			{"vectors", docs.NewIndex(withoutWords(site), client), true},
			{"fused", fused, true},
		}
		name := strings.TrimSuffix(filepath.Base(pairs[1]), ".jsonl")
		for _, s := range searches {
			r, err := ask(ctx, s.index, questions, s.vectors)
			if err != nil {
				return err
			}
			fmt.Fprintf(table, "%s\t%d\t%d\t%s\t%.2f\t%.2f\t%.2f\t%.3f\n",
				name, fused.Sections(), len(questions), s.name, r.recall[1], r.recall[5], r.recall[10], r.mrr)
			if len(r.misses) > 0 {
				fmt.Fprintf(&missed, "\n%s, %s, not among the first ten:\n%s", name, s.name, strings.Join(r.misses, ""))
			}
		}
	}
	if err := table.Flush(); err != nil || !misses {
		return err
	}
	fmt.Print(missed.String())
	return nil
}

// question is a line of a file of questions.
type question struct {
	Q string
	// Answers are the sections that answer it, as path#anchor. Any of them is right.
	Answers []string
}

// read reads questions and checks that the site has their answers.
func read(file string, site *docs.Site) (questions []question, err error) {
	known := map[string]bool{}
	for i := range site.Pages {
		for j := range site.Pages[i].Sections {
			known[place(site.Pages[i].Link(&site.Pages[i].Sections[j]))] = true
		}
	}
	f, err := os.Open(file) //nolint:gosec // The developer names it.
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // It was only read.
	var missing []error
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for i, a := range q.Answers {
			if q.Answers[i] = place(a); !known[q.Answers[i]] {
				missing = append(missing, fmt.Errorf("%s: the site has no %s", file, a))
			}
		}
		questions = append(questions, q)
	}
	return questions, errors.Join(append(missing, lines.Err())...)
}

// place returns what is the same in all links to a section.
func place(link string) string {
	u, err := url.Parse(link)
	if err != nil {
		return link
	}
	return strings.TrimSuffix(u.Path, "/") + "#" + u.Fragment
}

// withoutWords returns a site in which a search finds nothing but by vectors.
func withoutWords(site *docs.Site) *docs.Site {
	bare := *site
	bare.Pages = make([]docs.Page, len(site.Pages))
	for i, p := range site.Pages {
		bare.Pages[i] = docs.Page{URL: p.URL, Language: p.Language, Version: p.Version}
		for _, s := range p.Sections {
			bare.Pages[i].Sections = append(bare.Pages[i].Sections, docs.Section{Anchor: s.Anchor, Pieces: s.Pieces})
		}
	}
	return &bare
}

// result is how a search did on a set of questions.
type result struct {
	recall map[int]float64 // At 1, 5 and 10.
	mrr    float64         // Over the first ten.
	misses []string
}

// ask asks all questions.
func ask(ctx context.Context, x *docs.Index, questions []question, vectors bool) (result, error) {
	r := result{recall: map[int]float64{}}
	for _, q := range questions {
		found, err := x.Search(ctx, docs.Query{Question: q.Q}, 10)
		if err != nil {
			return r, err
		}
		if vectors && found.WithoutVectors != nil {
			return r, found.WithoutVectors
		}
		rank := rankOf(q, found.Passages)
		for _, n := range []int{1, 5, 10} {
			if rank > 0 && rank <= n {
				r.recall[n] += 1 / float64(len(questions))
			}
		}
		if rank > 0 {
			r.mrr += 1 / float64(rank) / float64(len(questions))
			continue
		}
		miss := fmt.Sprintf("  %s\n    right  %s\n", q.Q, strings.Join(q.Answers, " "))
		for _, p := range found.Passages[:min(5, len(found.Passages))] {
			miss += "    found  " + place(p.URL) + "\n"
		}
		r.misses = append(r.misses, miss)
	}
	return r, nil
}

// rankOf returns the rank of the first right passage, or 0 if there is none.
func rankOf(q question, passages []docs.Passage) int {
	for i, p := range passages {
		for _, a := range q.Answers {
			if place(p.URL) == a {
				return i + 1
			}
		}
	}
	return 0
}
