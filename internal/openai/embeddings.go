package openai

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// OpenAI's bounds on a request for embeddings. A token has at least one byte, so a
// request that is within them in bytes is within them in tokens.
const (
	maxInputs      = 2048
	maxInputBytes  = 8192    // Of each text.
	maxInputsBytes = 300_000 // Of all texts.
)

const (
	// numberBytes is the most that a number of a vector takes in an answer. In base64,
	// which is asked for, it takes 6 bytes. A gateway that does not know base64 sends
	// 20 digits, and may indent them.
	numberBytes = 32
	// vectorBytes is the most that the rest of a vector's object takes.
	vectorBytes = 512
	// maxVectors is the most that an answer to one request may take, in bytes.
	maxVectors = 8 << 20
	// maxDimensions is above those of any model. OpenAI's largest has 3,072.
	maxDimensions = 1 << 14
)

// Embed returns a vector for each text, in their order. It makes as many requests as
// OpenAI's bounds need, one after the other, and repeats each as [Client.Post] does.
// Of a text only the first 8,192 bytes count. An empty text, or a number of dimensions that no
// model has, is an error before the first request. Errors do not quote the texts.
func (c *Client) Embed(ctx context.Context, model string, dimensions int, texts []string) ([][]float32, error) {
	if dimensions < 1 || dimensions > maxDimensions {
		return nil, fmt.Errorf("vectors cannot have %d dimensions", dimensions)
	}
	inputs := make([]string, len(texts))
	for i, text := range texts {
		if text == "" {
			return nil, fmt.Errorf("text %d of %d to embed is empty", i+1, len(texts))
		}
		inputs[i] = start(text)
	}
	vectors := make([][]float32, 0, len(inputs))
	for len(inputs) > 0 {
		n := fitting(inputs, dimensions)
		batch, err := c.embed(ctx, model, dimensions, inputs[:n])
		if err != nil {
			return nil, err
		}
		vectors, inputs = append(vectors, batch...), inputs[n:]
	}
	return vectors, nil
}

// EmbeddedTokens returns how many tokens OpenAI has charged for embeddings since the
// client was made.
func (c *Client) EmbeddedTokens() int64 { return c.embedded.Load() }

// start returns the part of a text that is embedded.
func start(text string) string {
	if len(text) <= maxInputBytes {
		return text
	}
	end := maxInputBytes
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// fitting returns how many of the inputs fit into one request, and their vectors
// into its answer: at least one.
func fitting(inputs []string, dimensions int) int {
	most := min(len(inputs), maxInputs, maxVectors/answerBytes(1, dimensions))
	size := 0
	for i, input := range inputs[:most] {
		if size += len(input); size > maxInputsBytes {
			return i
		}
	}
	return most
}

// answerBytes returns the most that an answer takes with so many vectors.
func answerBytes(vectors, dimensions int) int {
	return vectors * (vectorBytes + dimensions*numberBytes)
}

// embed makes one request.
func (c *Client) embed(ctx context.Context, model string, dimensions int, inputs []string) ([][]float32, error) {
	body, err := json.Marshal(map[string]any{
		"model": model, "dimensions": dimensions, "input": inputs, "encoding_format": "base64",
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the texts to embed: %w", err)
	}
	answer, err := c.call(ctx, request{
		path: "/embeddings", body: body, texts: inputs,
		most: max(maxBody, answerBytes(len(inputs), dimensions)),
	})
	if err != nil {
		return nil, err
	}
	vectors, tokens, err := parseVectors(answer.Body, len(inputs), dimensions)
	c.embedded.Add(tokens)
	if err != nil {
		return nil, answer.Unusable(err)
	}
	return vectors, nil
}

// parseVectors returns the vectors of an answer in the order of their inputs, and
// the tokens that the answer says were charged, even if a vector is not right.
func parseVectors(body []byte, inputs, dimensions int) (vectors [][]float32, tokens int64, err error) {
	var a struct {
		Data []struct {
			Index     *int   `json:"index"`
			Embedding vector `json:"embedding"`
		} `json:"data"`
		Usage struct {
			PromptTokens int64 `json:"prompt_tokens"`
		} `json:"usage"`
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, 0, fmt.Errorf("the vectors are not readable: %w", err)
	}
	tokens = max(0, a.Usage.PromptTokens)
	if len(a.Data) != inputs {
		return nil, tokens, fmt.Errorf("it has %d vectors for %d texts", len(a.Data), inputs)
	}
	vectors = make([][]float32, inputs)
	for _, d := range a.Data {
		switch {
		case d.Index == nil:
			return nil, tokens, errors.New("a vector has no index")
		case *d.Index < 0 || *d.Index >= inputs:
			return nil, tokens, fmt.Errorf("a vector has the index %d of %d texts", *d.Index, inputs)
		case vectors[*d.Index] != nil:
			return nil, tokens, fmt.Errorf("two vectors have the index %d", *d.Index)
		}
		if err := d.Embedding.check(dimensions); err != nil {
			return nil, tokens, fmt.Errorf("vector %d: %w", *d.Index, err)
		}
		vectors[*d.Index] = d.Embedding
	}
	return vectors, tokens, nil
}

// vector is one in an answer: base64 of little-endian floats, or an array from a
// gateway that does not know base64.
type vector []float32

// UnmarshalJSON implements [json.Unmarshaler].
func (v *vector) UnmarshalJSON(data []byte) error {
	if !bytes.HasPrefix(data, []byte(`"`)) {
		return json.Unmarshal(data, (*[]float32)(v)) //nolint:wrapcheck // The caller says what is not readable.
	}
	var packed []byte
	if err := json.Unmarshal(data, &packed); err != nil {
		return err //nolint:wrapcheck // As above.
	}
	if len(packed)%4 != 0 {
		return fmt.Errorf("a vector has %d bytes, which are no 4-byte numbers", len(packed))
	}
	*v = make(vector, len(packed)/4)
	_, err := binary.Decode(packed, binary.LittleEndian, []float32(*v))
	return err //nolint:wrapcheck // As above.
}

// check says why a vector cannot be used.
func (v vector) check(dimensions int) error {
	if len(v) != dimensions {
		return fmt.Errorf("it has %d dimensions instead of %d", len(v), dimensions)
	}
	zero := true
	for _, x := range v {
		if f := float64(x); math.IsNaN(f) || math.IsInf(f, 0) {
			return errors.New("it has a number that is not finite")
		}
		zero = zero && x == 0
	}
	if zero {
		return errors.New("it is zero")
	}
	return nil
}
