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

	"docent/internal/answer"
	"docent/internal/chatkit"
	"docent/internal/config"
	"docent/internal/docs"
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

// OpenResponder returns what answers questions from the docs as the service does, for a
// command. observe is told how each one was answered. Unlike the service, it needs the
// index to be there: a URL that does not answer is an error. The caller calls done.
func OpenResponder(ctx context.Context, c config.Config, observe func(context.Context, answer.Outcome)) (r chatkit.Responder, done func(), err error) {
	log := slog.New(slog.DiscardHandler)
	p := &parts{}
	if err := p.openSecrets(ctx, c, log); err != nil {
		p.close(log)
		return nil, nil, err
	}
	p.openai = NewOpenAI(c, p.apiKey)
	passages := p.passages()
	if c.DocsIndex != "" {
		site, err := docs.Load(ctx, c.DocsIndex)
		if err != nil {
			p.close(log)
			return nil, nil, err
		}
		passages = docs.NewIndex(site, p.openai)
	}
	return p.responder(c, passages, observe), func() { p.close(log) }, nil
}

// docsReady returns an error while there is no index. OpenAI's vector store is always
// there, or a question says otherwise.
func (p *parts) docsReady(ctx context.Context) error {
	if p.index == nil {
		return nil
	}
	return p.index.Ready(ctx)
}

// openInstructions reads the site's own instructions where a file has them.
func (p *parts) openInstructions(c config.Config) error {
	p.siteInstructions = p.instructions.Get
	if name, isFile := c.InstructionsFile(); isFile {
		text, err := ReadInstructions(name)
		if err != nil {
			return fmt.Errorf("ASSISTANT_INSTRUCTIONS: %w", err)
		}
		p.siteInstructions = func() string { return text }
	}
	if utf8.RuneCountInString(p.siteInstructions()) > config.MaxInstructions {
		return fmt.Errorf("ASSISTANT_INSTRUCTIONS: the text has more than %d characters", config.MaxInstructions)
	}
	return nil
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
