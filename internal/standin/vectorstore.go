package standin

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// File is one in a vector store.
type File struct {
	Name string
	// Attributes are strings, numbers and booleans.
	Attributes map[string]any
	Text       string
}

const (
	// chunkWords is how many words a chunk of a file has: about OpenAI's 800 tokens.
	// Half of them are in the next one, too.
	chunkWords = 600
	// searchDimensions is the length of the vectors that a vector store is searched by.
	searchDimensions = 1536
)

// chunk is a part of a file in a vector store.
type chunk struct {
	fileID string
	file   File
	text   string
	vector []float32
}

// SetVectorStore makes a vector store of the files, or replaces it.
func (o *OpenAI) SetVectorStore(id string, files ...File) {
	chunks := []chunk{}
	for i, f := range files {
		words := strings.SplitAfter(f.Text, " ")
		for start := 0; ; start += chunkWords / 2 {
			end := min(start+chunkWords, len(words))
			text := strings.Join(words[start:end], "")
			chunks = append(chunks, chunk{fmt.Sprintf("file-standin%d", i+1), f, text, vectorOf(text, searchDimensions)})
			if end == len(words) {
				break
			}
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stores[id] = chunks
}

// search answers a search of a vector store.
func (o *OpenAI) search(w http.ResponseWriter, r *http.Request, id string) {
	var q struct {
		Query          json.RawMessage `json:"query"`
		RewriteQuery   bool            `json:"rewrite_query"`
		MaxNumResults  *int            `json:"max_num_results"`
		RankingOptions struct {
			Ranker         string  `json:"ranker"`
			ScoreThreshold float32 `json:"score_threshold"`
		} `json:"ranking_options"`
	}
	o.mu.Lock()
	chunks, known := o.stores[id]
	o.mu.Unlock()
	if !known {
		openAIError(w, http.StatusNotFound, "", "Vector store with id '"+id+"' not found.")
		return
	}
	if !decode(w, r, &q) {
		return
	}
	most := 10
	if q.MaxNumResults != nil {
		most = *q.MaxNumResults
	}
	queries, ok := inputsOf(q.Query)
	switch {
	case !ok || slices.Contains(queries, ""):
		openAIError(w, http.StatusBadRequest, "invalid_value", "Invalid 'query'."+checkUse)
	case most < 1 || most > 50:
		openAIError(w, http.StatusBadRequest, "invalid_value", fmt.Sprintf("Invalid 'max_num_results': expected a value from 1 to 50, but got %d instead.", most))
	case !slices.Contains([]string{"", "none", "auto", "default-2024-11-15"}, q.RankingOptions.Ranker):
		openAIError(w, http.StatusBadRequest, "invalid_value",
			"Invalid value: '"+q.RankingOptions.Ranker+"'. Supported values are: 'none', 'auto', and 'default-2024-11-15'.")
	default:
		writeJSON(w, http.StatusOK, map[string]any{
			"object": "vector_store.search_results.page", "search_query": queries,
			"data":     results(chunks, strings.Join(queries, "\n"), most, q.RankingOptions.ScoreThreshold),
			"has_more": false, "next_page": nil,
		})
	}
}

// results returns the chunks that are closest to a query, best first.
func results(chunks []chunk, query string, most int, threshold float32) []map[string]any {
	v := vectorOf(query, searchDimensions)
	best := slices.SortedStableFunc(slices.Values(chunks), func(a, b chunk) int { return cmp.Compare(dot(b.vector, v), dot(a.vector, v)) })
	data := []map[string]any{}
	for _, c := range best[:min(most, len(best))] {
		if score := dot(c.vector, v); score >= threshold {
			attributes := c.file.Attributes
			if attributes == nil {
				attributes = map[string]any{}
			}
			data = append(data, map[string]any{
				"file_id": c.fileID, "filename": c.file.Name, "score": score, "attributes": attributes,
				"content": []map[string]string{{"type": "text", "text": c.text}},
			})
		}
	}
	return data
}
