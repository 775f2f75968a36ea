package openai

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"unicode"

	"docent/internal/docs"
)

// maxResults is how many results OpenAI is asked for. A few are more than are
// needed: some may have no text.
const maxResults = docs.MaxPassages + 4

// VectorStore finds passages in a vector store of OpenAI's. It implements
// [docs.Searcher].
type VectorStore struct {
	Client *Client
	// ID returns the current ID of the vector store.
	ID func() string
}

// Passages implements [docs.Searcher]. URL, title, heading and anchor come from the
// file's attributes of these names. A file without a URL has its name as title, and
// its passages have an empty URL, unless the name is a URL. The page that is being
// read and the languages play no part. It fails as [Client.Post] does, with [NotFound] if there is
// no such vector store. Errors do not quote the question.
func (s *VectorStore) Passages(ctx context.Context, q docs.Query) (docs.Found, error) {
	question := strings.TrimSpace(q.Question + "\n" + q.Previous)
	body, err := json.Marshal(map[string]any{
		"query": question, "max_num_results": maxResults, "rewrite_query": false,
		// OpenAI's ranker takes time, but only eight passages reach the model.
		"ranking_options": map[string]string{"ranker": "auto"},
	})
	if err != nil {
		return docs.Found{}, fmt.Errorf("encoding the question: %w", err)
	}
	answer, err := s.Client.call(ctx, request{
		path: "/vector_stores/" + url.PathEscape(s.ID()) + "/search", body: body, most: maxBody,
		texts: []string{q.Question, q.Previous},
	})
	if err != nil {
		return docs.Found{}, err
	}
	passages, err := parseResults(answer.Body)
	if err != nil {
		return docs.Found{}, answer.Unusable(err)
	}
	return docs.Found{Passages: docs.Bound(passages)}, nil
}

// A result is a file in an answer, with the parts of it that were found.
type result struct {
	FileID     string         `json:"file_id"`
	Filename   string         `json:"filename"`
	Score      float64        `json:"score"`
	Attributes map[string]any `json:"attributes"` // Strings, numbers and booleans.
	Content    []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	} `json:"content"`
}

// parseResults returns the passages of an answer, in its order.
func parseResults(body []byte) ([]docs.Passage, error) {
	var a struct {
		Data *[]result `json:"data"`
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("the results are not readable: %w", err)
	}
	if a.Data == nil {
		return nil, errors.New("it has no list of results")
	}
	var passages []docs.Passage
	for _, r := range *a.Data {
		p := r.passage()
		for _, c := range r.Content {
			if p.Text = strings.TrimSpace(clean(c.Text)); c.Type == "text" && p.Text != "" {
				passages = append(passages, p)
			}
		}
	}
	return passages, nil
}

// passage returns what the passages of a result have in common.
func (r *result) passage() docs.Passage {
	name := line(r.Filename)
	p := docs.Passage{URL: cmp.Or(link(r.attribute("url")), link(name)), Score: r.Score}
	p.Title = cmp.Or(r.attribute("title"), withoutExtension(name), p.URL, r.FileID)
	if heading := r.attribute("heading"); heading != "" {
		p.Headings = []string{heading}
	}
	if anchor := r.attribute("anchor"); p.URL != "" && !strings.Contains(p.URL, "#") {
		p.URL = (&docs.Page{URL: p.URL}).Link(&docs.Section{Anchor: strings.TrimPrefix(anchor, "#")})
	}
	return p
}

// attribute returns one of the file's attributes, or "".
func (r *result) attribute(name string) string {
	value, _ := r.Attributes[name].(string)
	return line(value)
}

// link returns an absolute URL of the web, or "". It becomes a link in a visitor's
// page.
func link(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return ""
	}
	return u.String()
}

// withoutExtension returns a file's name without the ending of a text.
func withoutExtension(name string) string {
	switch ext := path.Ext(name); strings.ToLower(ext) {
	case ".md", ".txt", ".html", ".htm", ".pdf", ".doc", ".docx":
		return strings.TrimSuffix(name, ext)
	default:
		return name
	}
}

// clean returns a text without control characters, other than tabs and the ends of
// lines, and without the characters that citations of OpenAI's are made of.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' || r >= 0xE200 && r <= 0xE202 {
			return -1
		}
		return r
	}, text)
}

// line returns a text clean and in one line.
func line(text string) string { return strings.Join(strings.Fields(clean(text)), " ") }
