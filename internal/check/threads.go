package check

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"docent/internal/app"
	"docent/internal/chatkit"
	"docent/internal/firestore"
	"docent/internal/redact"
)

// checkKeep is how long Firestore keeps the conversation of a check that was killed.
const checkKeep = time.Hour

// inMemory is the result for conversations that Firestore does not keep.
func (c *checkup) inMemory() Result {
	result := skipped("RATE_LIMIT_STORE is memory")
	if c.config.OnCloudRun {
		result.note("an instance keeps its own conversations, and forgets them when it stops")
	}
	return result
}

// threads writes, reads and deletes a conversation.
func (c *checkup) threads(ctx context.Context, client *firestore.Client) Result {
	// A key of its own names documents that no visitor can have.
	key := make([]byte, idKeySize)
	rand.Read(key)
	store, err := client.Threads(checkKeep, key, time.Now)
	if err != nil {
		return fail("%s", redact.OneLine(err.Error()))
	}
	visitor, now := rand.Text(), chatkit.TimeOf(time.Now()).Time
	thread := chatkit.Thread{ID: "check_" + rand.Text(), Title: "docent check", Created: now, Updated: now}
	began := time.Now()
	err = c.writeAndRead(ctx, store, visitor, thread)
	// A write that failed may have arrived, and the check may have been interrupted.
	deleted := c.within(context.WithoutCancel(ctx), func(ctx context.Context) error { return store.Delete(ctx, visitor, thread.ID) })
	switch {
	case err != nil:
		return fail("%s", redact.OneLine(err.Error()))
	case deleted != nil:
		return fail("deleting a conversation: %s", redact.OneLine(deleted.Error()))
	}
	return ok("a conversation was written, read and deleted in %d ms", time.Since(began).Milliseconds())
}

func (c *checkup) writeAndRead(ctx context.Context, store *firestore.Threads, visitor string, thread chatkit.Thread) error {
	err := c.within(ctx, func(ctx context.Context) (err error) {
		thread.Version, err = store.Put(ctx, visitor, thread)
		return err
	})
	if err != nil {
		return fmt.Errorf("writing a conversation: %w", err)
	}
	var read chatkit.Thread
	err = c.within(ctx, func(ctx context.Context) (err error) {
		read, err = store.Get(ctx, visitor, thread.ID)
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("reading a conversation: %w", err)
	case read.Version != thread.Version || read.Title != thread.Title:
		return fmt.Errorf("a conversation was read in another version than it was written: check that nothing else writes to the collections %s", firestore.ThreadsCollection)
	default:
		return nil
	}
}

// within calls the store within the time that the service allows for it.
func (c *checkup) within(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, app.StoreTimeout(c.config))
	defer cancel()
	return call(ctx)
}
