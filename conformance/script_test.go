//go:build unix

package conformance_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"docent/internal/chatkit"
)

// act is one step of a script. Exactly one field is set. Its name in JSON is in lower
// case.
type act struct {
	// Progress says what is being done.
	Progress *progress
	// Write adds to the answer's text.
	Write string
	// Cite adds a source at the end of the text so far.
	Cite *struct{ Title, URL string }
	// Notice shows a card.
	Notice *struct {
		Level          chatkit.NoticeLevel
		Title, Message string
	}
	// Close closes the thread, for this reason. Docent does so on its own: it closes
	// one that is full.
	Close string
	// Fail ends the answer with an error that the visitor may read.
	Fail *struct {
		Message string
		Retry   bool
	}
	// Crash ends the answer with a fault of the server's.
	Crash string
	// Hang says nothing more until the visitor leaves.
	Hang bool
}

type progress struct{ Icon, Text string }

// scripted answers questions as their script says: see reference.py.
type scripted struct {
	mu       sync.Mutex
	attempts map[string]int // By the message's ID.
}

// Respond implements [chatkit.Responder].
func (s *scripted) Respond(ctx context.Context, q chatkit.Question, a *chatkit.Answer) error {
	scripts, err := scriptsOf(q.Message.Text())
	if err != nil {
		return err
	}
	s.mu.Lock()
	attempt := min(s.attempts[q.Message.ID], len(scripts)-1)
	s.attempts[q.Message.ID]++
	s.mu.Unlock()
	for _, act := range scripts[attempt] {
		if err := act.do(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

func scriptsOf(question string) (scripts [][]act, err error) {
	if text, ok := strings.CutPrefix(question, "script: "); ok {
		if err := json.Unmarshal([]byte(text), &scripts); err != nil {
			return nil, fmt.Errorf("script: %w", err)
		}
		return scripts, nil
	}
	echo := []act{{Progress: &progress{"search", "Searching the docs…"}}}
	for _, word := range strings.SplitAfter(question, " ") {
		echo = append(echo, act{Write: word})
	}
	return [][]act{echo}, nil
}

func (act act) do(ctx context.Context, a *chatkit.Answer) error {
	switch {
	case act.Progress != nil:
		return a.Progress(act.Progress.Icon, act.Progress.Text)
	case act.Write != "":
		return a.Write(act.Write)
	case act.Cite != nil:
		return a.Cite(chatkit.URLSource{Title: act.Cite.Title, URL: act.Cite.URL})
	case act.Notice != nil:
		a.Notice(act.Notice.Level, act.Notice.Title, act.Notice.Message)
	case act.Fail != nil:
		return &chatkit.StreamError{Message: act.Fail.Message, Retry: act.Fail.Retry}
	case act.Crash != "":
		return errors.New(act.Crash)
	case act.Hang:
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return nil
}
