package standin

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"unicode"
)

// dimensionsOf are the models that the stand-in knows, with the most dimensions.
var dimensionsOf = map[string]int{"text-embedding-3-small": 1536, "text-embedding-3-large": 3072}

// OpenAI's bounds on a request for embeddings.
const (
	maxInputs      = 2048
	maxInputTokens = 8192    // Of each input.
	maxTokens      = 300_000 // Of all inputs.
)

// checkUse is the end of OpenAI's least specific refusals.
const checkUse = " Please check the API reference: https://platform.openai.com/docs/api-reference."

// RateLimited answers as OpenAI does above a rate limit. The next call may be made
// after a time in seconds.
func RateLimited(retryAfter string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", retryAfter)
		openAIFault(w, http.StatusTooManyRequests, "tokens", "rate_limit_exceeded",
			"Rate limit reached for text-embedding-3-small on tokens per min (TPM): Limit 1000000, Used 1000000, Requested 20000. Please try again in "+retryAfter+"s.")
	}
}

// OutOfQuota answers as OpenAI does when the credit is used up.
func OutOfQuota(w http.ResponseWriter, _ *http.Request) {
	openAIFault(w, http.StatusTooManyRequests, "insufficient_quota", "insufficient_quota",
		"You exceeded your current quota, please check your plan and billing details. For more information on this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.")
}

// Embedded returns how many texts the stand-in has embedded.
func (o *OpenAI) Embedded() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.embedded
}

// embed answers a request for embeddings.
func (o *OpenAI) embed(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Model          string          `json:"model"`
		Input          json.RawMessage `json:"input"`
		EncodingFormat string          `json:"encoding_format"`
		Dimensions     *int            `json:"dimensions"`
		User           string          `json:"user"`
	}
	if !decode(w, r, &q) {
		return
	}
	inputs, ok := inputsOf(q.Input)
	most, known := dimensionsOf[q.Model]
	dimensions := most
	if q.Dimensions != nil {
		dimensions = *q.Dimensions
	}
	total, longest := 0, 0
	for _, input := range inputs {
		n := tokensOf(input)
		total, longest = total+n, max(longest, n)
	}
	refuse := func(message string) { openAIError(w, http.StatusBadRequest, "", message) }
	switch {
	case !known:
		openAIError(w, http.StatusNotFound, "model_not_found", "The model `"+q.Model+"` does not exist or you do not have access to it.")
	case !ok || slices.Contains(inputs, ""):
		refuse("'$.input' is invalid." + checkUse)
	case len(inputs) > maxInputs:
		refuse(fmt.Sprintf("Invalid 'input': array length must be %d or less.", maxInputs))
	case q.EncodingFormat != "" && q.EncodingFormat != "float" && q.EncodingFormat != "base64":
		refuse("'" + q.EncodingFormat + "' is not one of ['float', 'base64'] - 'encoding_format'")
	case dimensions < 1:
		refuse(fmt.Sprintf("%d is less than the minimum of 1 - 'dimensions'", dimensions))
	case dimensions > most:
		refuse(fmt.Sprintf("Invalid value for 'dimensions' = %d. Must be less than or equal to %d.", dimensions, most))
	case longest > maxInputTokens:
		refuse(fmt.Sprintf("This model's maximum context length is %d tokens, however you requested %d tokens (%d in your prompt; 0 for the completion). "+
			"Please reduce your prompt; or completion length.", maxInputTokens, longest, longest))
	case total > maxTokens:
		openAIFault(w, http.StatusBadRequest, "max_tokens_per_request", "max_tokens_per_request",
			fmt.Sprintf("Requested %d tokens, max %d tokens per request", total, maxTokens))
	default:
		o.mu.Lock()
		o.embedded += len(inputs)
		o.mu.Unlock()
		data := make([]map[string]any, len(inputs))
		for i, input := range inputs {
			data[i] = map[string]any{"object": "embedding", "index": i, "embedding": encoded(vectorOf(input, dimensions), q.EncodingFormat)}
		}
		// OpenAI promises no order.
		rand.Shuffle(len(data), func(i, j int) { data[i], data[j] = data[j], data[i] }) //nolint:gosec // It guards nothing.
		writeJSON(w, http.StatusOK, map[string]any{
			"object": "list", "data": data, "model": q.Model,
			"usage": map[string]int{"prompt_tokens": total, "total_tokens": total},
		})
	}
}

// inputsOf returns the texts of a request: one, or several.
func inputsOf(raw json.RawMessage) (inputs []string, ok bool) {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}, raw != nil
	}
	err := json.Unmarshal(raw, &inputs)
	return inputs, err == nil && len(inputs) > 0
}

// encoded returns a vector in the form that was asked for.
func encoded(v []float32, format string) any {
	if format != "base64" {
		return v
	}
	packed := make([]byte, 0, 4*len(v))
	for _, x := range v {
		packed = binary.LittleEndian.AppendUint32(packed, math.Float32bits(x))
	}
	return base64.StdEncoding.EncodeToString(packed)
}

// tokensOf returns about as many tokens as OpenAI would count.
func tokensOf(text string) int { return (len(text) + 3) / 4 }

// vectorOf returns a vector of length 1. Texts with many words in common have
// vectors that are close. That is as much as the stand-in knows of their meaning.
func vectorOf(text string, dimensions int) []float32 {
	v := make([]float32, dimensions)
	words := wordsOf(text)
	if len(words) == 0 {
		words = []string{text}
	}
	for _, word := range words {
		h := fnv.New32a()
		h.Write([]byte(word))
		v[h.Sum32()%uint32(dimensions)]++ //nolint:gosec // At most 3,072.
	}
	length := float32(math.Sqrt(float64(dot(v, v))))
	for i := range v {
		v[i] /= length
	}
	return v
}

func wordsOf(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

func dot(a, b []float32) (sum float32) {
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}
