package app

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"docent/internal/config"
	"docent/internal/docs"
	"docent/internal/secrets"
)

// openDocs opens the index that passages come from, if they come from one. A file
// that cannot be read stops the start; a URL that does not answer does not.
func (p *parts) openDocs(ctx context.Context, c config.Config, log *slog.Logger) (err error) {
	p.index, err = docs.Open(ctx, docs.SourceOptions{
		Location: c.DocsIndex, Refresh: c.DocsIndexRefresh, Embedder: embedder{p}, Log: log, Now: time.Now,
	})
	if err != nil {
		return fmt.Errorf("DOCS_INDEX: %w", err)
	}
	return nil
}

// An embedder is OpenAI's client of the parts. The index is opened while the key for
// that is still being fetched.
type embedder struct{ p *parts }

// Embed implements [docs.Embedder].
func (e embedder) Embed(ctx context.Context, model string, dimensions int, texts []string) ([][]float32, error) {
	return e.p.openai.Embed(ctx, model, dimensions, texts)
}

// docsReady returns an error while there is no index. OpenAI's vector store is always
// there, or a question says otherwise.
func (p *parts) docsReady(ctx context.Context) error {
	if p.index == nil {
		return nil
	}
	return p.index.Ready(ctx)
}

// Instructions returns what returns the site's own instructions, or "". value is that
// of ASSISTANT_INSTRUCTIONS; where it names a file, the file is read once.
func Instructions(c config.Config, value *secrets.Value) (func() string, error) {
	instructions := value.Get
	literal, _ := c.Instructions.Literal()
	if name, isFile := strings.CutPrefix(literal, "@"); isFile {
		text, err := ReadInstructions(name)
		if err != nil {
			return nil, fmt.Errorf("ASSISTANT_INSTRUCTIONS: %w", err)
		}
		instructions = func() string { return text }
	}
	if utf8.RuneCountInString(instructions()) > config.MaxInstructions {
		return nil, fmt.Errorf("ASSISTANT_INSTRUCTIONS: the text has more than %d characters", config.MaxInstructions)
	}
	return instructions, nil
}

// ReadInstructions returns the text of a file, cut where it is longer than instructions
// may be. An error names the file.
func ReadInstructions(name string) (string, error) {
	f, err := os.Open(name) //nolint:gosec // The operator names the file.
	if err != nil {
		return "", err //nolint:wrapcheck // It names the file.
	}
	defer f.Close() //nolint:errcheck // It was only read.
	text, err := io.ReadAll(io.LimitReader(f, utf8.UTFMax*config.MaxInstructions+1))
	if err != nil {
		return "", err //nolint:wrapcheck // It names the file.
	}
	if !utf8.Valid(text) {
		return "", fmt.Errorf("%s is not a text in UTF-8", name)
	}
	return strings.TrimSpace(string(text)), nil
}

// SafetyID returns what OpenAI may know a visitor by: a hash of 64 characters, which
// nothing else is derived from.
func (k Keys) SafetyID(visitor string) string {
	mac := hmac.New(sha256.New, k.SafetyIDs)
	mac.Write([]byte(visitor))
	return hex.EncodeToString(mac.Sum(nil))
}
