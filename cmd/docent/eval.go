package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"docent/internal/app"
	"docent/internal/docs"
	"docent/internal/redact"
)

// ranks are the ranks at which recall is measured. As many sections as the last
// says are looked at.
var ranks = []int{1, 5, 10}

// A question of a file for `docent eval`. Any of the answers is right.
type question struct {
	Q       string   `json:"q"`
	Answers []string `json:"answers"`

	right map[string]bool // The answers as links of the index.
}

// An evaluation is what `docent eval --json` prints.
type evaluation struct {
	N int `json:"n"`
	// Recall is the share of questions with a right section among the first, by how
	// many are looked at.
	Recall map[int]float64 `json:"recall"`
	// MRR is the mean of 1 divided by the rank of the first right section, or of 0 if
	// there is none among those that are looked at.
	MRR    float64 `json:"mrr"`
	Misses []miss  `json:"misses"`
}

// A miss is a question without a right section among those that are looked at.
type miss struct {
	Q       string   `json:"q"`
	Answers []string `json:"answers"`
	Found   []string `json:"found"`
}

func runEval(ctx context.Context, p app.Process, args []string) error {
	a := newArguments("eval")
	location := a.String("index", "", "")
	least := a.Float64("min", 0, "")
	pages := a.Bool("pages", false, "")
	asJSON := a.Bool("json", false, "")
	files, err := a.parse(args, 1, 1)
	if err != nil {
		return err
	}
	if !(0 <= *least && *least <= 1) { // Not a number, either.
		return argumentsError("--min must be from 0 to 1")
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		return fmt.Errorf("the questions: %w", err)
	}
	index, done, err := load(ctx, p, *location)
	if err != nil {
		return err
	}
	defer done()
	l := linksOf(index.Site(), *pages)
	questions, err := readQuestions(data, l)
	if err != nil {
		return fmt.Errorf("%s: %w", files[0], err)
	}
	e, err := evaluate(ctx, p, index, questions, l)
	if err != nil {
		return err
	}
	if *asJSON {
		err = writeJSON(p.Stdout, e)
	} else {
		err = e.writeText(p.Stdout)
	}
	last := ranks[len(ranks)-1]
	if recall := e.Recall[last]; err == nil && recall < *least {
		err = fmt.Errorf("recall at %d is %.3f, which is less than %g", last, recall, *least)
	}
	return err
}

// links are the links of an index by what answers may call them.
type links struct {
	origin *url.URL
	// byAnswer has each section under its link, and with --pages each page's too.
	byAnswer map[string][]string
	pages    map[string]bool
}

// linksOf returns the links of a site. With whole, an answer without a fragment means
// all sections of the page.
func linksOf(site *docs.Site, whole bool) links {
	l := links{origin: &url.URL{}, byAnswer: map[string][]string{}, pages: map[string]bool{}}
	for i := range site.Pages {
		page := &site.Pages[i]
		if u, err := url.Parse(page.URL); err == nil {
			l.origin = &url.URL{Scheme: u.Scheme, Host: u.Host}
		}
		name := l.name(page.URL)
		l.pages[name] = true
		for j := range page.Sections {
			link := page.Link(&page.Sections[j])
			own := l.name(link)
			l.byAnswer[own] = append(l.byAnswer[own], link)
			if whole && own != name {
				l.byAnswer[name] = append(l.byAnswer[name], link)
			}
		}
	}
	return l
}

// name returns a link in the form in which it is compared: absolute, without a slash
// at the end of the path. It returns "" for what is not a link.
func (l links) name(link string) string {
	u, err := l.origin.Parse(link)
	if err != nil {
		return ""
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	u.RawFragment = ""
	return u.String()
}

// short returns a link as answers are written: without the site's origin.
func (l links) short(link string) string {
	return redact.OneLine(strings.TrimPrefix(link, l.origin.String()))
}

// find returns the links that an answer means, or why there are none.
func (l links) find(answer string) (found []string, reason string) {
	name := l.name(answer)
	page, fragment, _ := strings.Cut(name, "#")
	switch found = l.byAnswer[name]; {
	case len(found) > 0:
		return found, ""
	case !l.pages[page]:
		return nil, "the index has no such page"
	case fragment == "":
		return nil, "the page has no text before its first heading: name a heading, or use --pages"
	default:
		return nil, "the page has no such heading"
	}
}

// readQuestions reads a question from each line that is not empty. Its error has all
// that is wrong.
func readQuestions(data []byte, l links) ([]question, error) {
	var questions []question
	var faults []error
	n := 0
	for line := range bytes.Lines(bytes.TrimPrefix(data, []byte("\ufeff"))) {
		n++
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		q := question{right: map[string]bool{}}
		err := json.Unmarshal(line, &q)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf(`line %d is not {"q": "…", "answers": ["…"]}: %s`, n, redact.OneLine(err.Error())))
		case strings.TrimSpace(q.Q) == "":
			faults = append(faults, fmt.Errorf("line %d has no question in q", n))
		case len(q.Answers) == 0:
			faults = append(faults, fmt.Errorf("line %d has no answers", n))
		}
		for _, answer := range q.Answers {
			found, reason := l.find(answer)
			if reason != "" {
				faults = append(faults, fmt.Errorf("line %d: %s: %s", n, redact.OneLine(answer), reason))
			}
			for _, link := range found {
				q.right[link] = true
			}
		}
		questions = append(questions, q)
	}
	switch {
	case len(faults) > 0:
		return nil, fmt.Errorf("%d faults\n%w", len(faults), errors.Join(faults...))
	case len(questions) == 0:
		return nil, errors.New("there are no questions in the file")
	}
	return questions, nil
}

// evaluate asks all questions.
func evaluate(ctx context.Context, p app.Process, index *docs.Index, questions []question, l links) (evaluation, error) {
	e := evaluation{N: len(questions), Recall: map[int]float64{}, Misses: []miss{}}
	last := ranks[len(ranks)-1]
	progress := newBar(p, "Searching")
	defer progress.clear()
	var withoutSome error
	for i, q := range questions {
		result, err := index.Search(ctx, docs.Query{Question: q.Q}, last)
		if err != nil {
			return e, err
		}
		if result.WithoutVectors != nil {
			withoutSome = result.WithoutVectors
		}
		first, found := 0, []string{}
		for rank, passage := range result.Passages {
			if first == 0 && q.right[passage.URL] {
				first = rank + 1
			}
			found = append(found, l.short(passage.URL))
		}
		if first == 0 {
			e.Misses = append(e.Misses, miss{q.Q, q.Answers, found})
		} else {
			e.MRR += 1 / float64(first)
		}
		for _, rank := range ranks {
			e.Recall[rank] += share(first > 0 && first <= rank)
		}
		progress.show(i+1, len(questions))
	}
	progress.clear()
	withoutVectors(p, withoutSome)
	for rank := range e.Recall {
		e.Recall[rank] /= float64(e.N)
	}
	e.MRR /= float64(e.N)
	return e, nil
}

func share(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// foundInText is how many found sections a miss has in the text.
const foundInText = 3

func (e evaluation) writeText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d questions\n\n", e.N)
	for _, rank := range ranks {
		fmt.Fprintf(&b, "  recall at %-2d  %.3f\n", rank, e.Recall[rank])
	}
	fmt.Fprintf(&b, "  MRR           %.3f\n", e.MRR)
	if len(e.Misses) > 0 {
		fmt.Fprintf(&b, "\nNot among the first %d:\n", ranks[len(ranks)-1])
	}
	for _, m := range e.Misses {
		fmt.Fprintf(&b, "\n  %s\n", redact.OneLine(m.Q))
		label := "right"
		for _, answer := range m.Answers {
			fmt.Fprintf(&b, "    %-6s %s\n", label, redact.OneLine(answer))
			label = ""
		}
		label = "found"
		for _, link := range m.Found[:min(foundInText, len(m.Found))] {
			fmt.Fprintf(&b, "    %-6s %s\n", label, link)
			label = ""
		}
		if len(m.Found) == 0 {
			fmt.Fprintf(&b, "    %-6s nothing\n", label)
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("writing the output: %w", err)
	}
	return nil
}
