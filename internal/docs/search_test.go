package docs_test

import (
	"context"

	"docent/internal/docs"
)

// embedder makes vectors with a function.
type embedder func(texts []string) ([][]float32, error)

func (e embedder) Embed(_ context.Context, _ string, _ int, texts []string) ([][]float32, error) {
	return e(texts)
}

var _ docs.Embedder = embedder(nil)
