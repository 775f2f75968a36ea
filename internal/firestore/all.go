package firestore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloud.google.com/go/firestore"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"docent/internal/chatkit"
	"docent/internal/ratelimit"
)

// AllThreads calls each with the threads of all visitors that were updated at since or
// later, newest first, until it returns false. It returns how many could not be read.
//
// It is for the operator: no request reaches it. Its query needs an index that the
// service does not; where that is missing, the error says how to create it. The
// emulator answers without.
func (c *Client) AllThreads(ctx context.Context, since time.Time, each func(chatkit.Thread) bool) (unreadable int, err error) {
	x, ctx := c.begin(ctx)
	found := c.client.CollectionGroup(threadsCollection).Where("updated", ">=", since).OrderBy("updated", firestore.Desc).Documents(ctx)
	defer found.Stop()
	for {
		doc, err := found.Next()
		switch {
		case errors.Is(err, iterator.Done):
			return unreadable, nil
		case status.Code(err) == codes.FailedPrecondition:
			return unreadable, c.noIndex()
		case err != nil:
			return unreadable, c.cannotList(ctx, x, err)
		case doc.Ref.Parent.Parent.Parent.ID != visitorsCollection:
			continue // Another application's collection may have the same name.
		}
		t, err := threadIn(doc, true)
		if err != nil {
			unreadable++
			continue
		}
		if !each(t) {
			return unreadable, nil
		}
	}
}

// cannotList returns a sentence for the operator.
func (c *Client) cannotList(ctx context.Context, x *call, err error) error {
	if err = c.diagnose(ctx, x, err); errors.Is(err, ratelimit.ErrContended) {
		return errors.New("Firestore did not answer in time: try again, or ask for less with --since") //nolint:staticcheck // Like the sentences of an outage.
	}
	return err
}

// noIndex says how to create the index of AllThreads. The command replaces what is
// indexed of the field by itself, so it names that again.
func (c *Client) noIndex() error {
	return fmt.Errorf("Firestore has no index for the conversations of all visitors. Create it once, and wait some minutes:\n\n"+ //nolint:staticcheck // As above.
		"  gcloud firestore indexes fields update updated --project=%s --database='%s' --collection-group=%s \\\n"+
		"    --index=order=ascending --index=order=descending --index=order=descending,query-scope=collection-group",
		c.o.Project, c.o.Database, threadsCollection)
}
