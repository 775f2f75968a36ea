package openai

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

const (
	// maxRetries is how often a call is tried again: OpenAI's own SDKs do it twice.
	maxRetries = 2
	// firstDelay is the mean pause before the first retry. It doubles with each.
	firstDelay = 250 * time.Millisecond
	// answerTime is what a retry must leave of the budget for its answer, or a
	// quarter of what there was where that is less.
	answerTime = time.Second
)

// retry makes attempts with the API key until one succeeds or fails for good. An
// attempt has succeeded when it returns nil: what fails after that is not
// repeated.
func (c *Client) retry(ctx context.Context, attempt func(key string) error) error {
	var (
		key     = c.o.APIKey.Get()
		renewed = false
		last    *Error // What OpenAI answered last.
		reserve = reserveOf(ctx)
	)
	for retries := 0; ; {
		err := attempt(key)
		var e *Error
		if !errors.As(err, &e) {
			return err // Nil, or the context's.
		}
		if e.Kind == Timeout && last != nil {
			return last // It says more: OpenAI did answer.
		}
		if e.Status != 0 {
			last = e
		}
		if e.Status == http.StatusUnauthorized && !renewed {
			renewed = true
			fresh, changed := c.o.APIKey.Renew(ctx, key)
			if !changed {
				return gone(ctx, e)
			}
			key = fresh
			continue
		}
		if e.Kind != Busy || retries == maxRetries {
			return e
		}
		if !sleep(ctx, max(delay(retries), e.retryAfter), reserve) {
			return gone(ctx, e)
		}
		retries++
	}
}

// delay returns the pause after so many retries: half of the mean to one and a
// half, so that callers who failed together do not come back together.
func delay(retries int) time.Duration {
	mean := firstDelay << retries
	return mean/2 + rand.N(mean) //nolint:gosec // It guards nothing.
}

// reserveOf returns the time that a retry must leave for its answer.
func reserveOf(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return answerTime
	}
	return min(answerTime, time.Until(deadline)/4)
}

// sleep waits for d. It returns false, without waiting, if that would not leave
// reserve of the budget, and as soon as ctx is done.
func sleep(ctx context.Context, d, reserve time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d+reserve {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// gone returns the context's error if the caller has gone, else err.
func gone(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("waiting to ask OpenAI again: %w", ctx.Err())
	}
	return err
}
