package answer

import (
	"context"
	"strings"
	"time"

	"docent/internal/chatkit"
)

// pause is the time between two words of an [Echo], so that they can be seen to
// stream.
const pause = 30 * time.Millisecond

// Echo answers a question with itself, word by word. It stands in for answers from
// the docs, so that a chat can be tried without any.
type Echo struct{}

// Respond implements [chatkit.Responder].
func (Echo) Respond(ctx context.Context, q chatkit.Question, a *chatkit.Answer) error {
	if err := a.Progress("search", "Searching the docs…"); err != nil {
		return err
	}
	for _, word := range strings.SplitAfter(q.Message.Text(), " ") {
		if err := a.Write(word); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err() //nolint:wrapcheck // The caller asks the context for the cause.
		case <-time.After(pause):
		}
	}
	return nil
}
