package firestore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"cloud.google.com/go/firestore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"docent/internal/chatkit"
	"docent/internal/redact"
)

const (
	// recentPage is how many conversations are read at a time, of at most 256 kB each.
	recentPage = 50
	// recentTimeout bounds the read of a page.
	recentTimeout = 20 * time.Second
)

// Recent passes the conversations of all visitors to each, the last updated first, until
// it returns false. It is for an operator: nothing of a thread says whose it is.
//
// It reads those that were updated at since or later, and returns how many of them
// cannot be read. Its errors are context.Canceled, and what the operator must do, with
// its cause. It needs an index that Firestore does not make on its own: the error for
// that has the command that makes it.
func (c *Client) Recent(ctx context.Context, since time.Time, each func(chatkit.Thread) bool) (unreadable int, err error) {
	query := c.client.CollectionGroup(ThreadsCollection).
		Where("updated", ">=", since).OrderBy("updated", firestore.Desc).OrderBy(firestore.DocumentID, firestore.Desc).
		Limit(recentPage)
	for next := query; ; {
		page, err := c.page(ctx, next)
		if err != nil {
			return unreadable, err
		}
		for _, doc := range page {
			if !isThread(doc.Ref) {
				continue
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
		if len(page) < recentPage {
			return unreadable, nil
		}
		next = query.StartAfter(page[len(page)-1])
	}
}

// isThread reports whether a document is at visitors/{owner}/threads/{ID}. A database
// may have other collections of this name.
func isThread(doc *firestore.DocumentRef) bool {
	owner := doc.Parent.Parent
	return owner != nil && owner.Parent.ID == visitorsCollection && owner.Parent.Parent == nil
}

// page reads what a query returns.
func (c *Client) page(ctx context.Context, query firestore.Query) ([]*firestore.DocumentSnapshot, error) {
	x, reading := c.begin(ctx)
	reading, stop := context.WithTimeout(reading, recentTimeout)
	defer stop()
	found, err := query.Documents(reading).GetAll()
	if status.Code(err) == codes.Unavailable {
		// As in List.
		found, err = query.Documents(reading).GetAll()
	}
	switch code := status.Code(err); {
	case err == nil:
		return found, nil
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, fmt.Errorf("asking Firestore: %w", ctx.Err())
	case code == codes.FailedPrecondition && strings.Contains(status.Convert(err).Message(), "index"):
		return nil, &outageError{c.indexAdvice(status.Convert(err).Message()), err}
	case code == codes.PermissionDenied && !isAPIDisabled(err):
		return nil, &outageError{"Firestore does not let you read the conversations: gcloud projects add-iam-policy-binding " + c.o.Project +
			" --member=user:YOUR_ACCOUNT --role=roles/datastore.viewer (" + reply(err, redact.Rule{}) + ")", err}
	default:
		return nil, c.outage(x, err)
	}
}

// maxIndexReply is how many characters of Firestore's words are reported where it wants
// an index: they have a long URL.
const maxIndexReply = 1000

// updatedIndexes are all indexes of the field "updated": the two that [Threads.List]
// needs, which Firestore would make on its own, and that of [Client.Recent]. Firestore
// replaces all indexes of a field at once.
const updatedIndexes = `{"indexConfig":{"indexes":[` +
	`{"queryScope":"COLLECTION","fields":[{"fieldPath":"updated","order":"ASCENDING"}]},` +
	`{"queryScope":"COLLECTION","fields":[{"fieldPath":"updated","order":"DESCENDING"}]},` +
	`{"queryScope":"COLLECTION_GROUP","fields":[{"fieldPath":"updated","order":"DESCENDING"}]}]}}`

// indexAdvice says how to make the index that Recent needs. gcloud has no command for
// an index of one field over a collection group.
func (c *Client) indexAdvice(words string) string {
	words = redact.Text(words, maxIndexReply, redact.Names)
	if strings.Contains(words, "not ready yet") || strings.Contains(words, "currently building") {
		return "Firestore is still making the index that this needs: try again in some minutes (" + words + ")"
	}
	return fmt.Sprintf(`Firestore needs one more index to read the conversations of all visitors. Make it once, with the role roles/datastore.indexAdmin:

curl --fail --request PATCH 'https://firestore.googleapis.com/v1/projects/%s/databases/%s/collectionGroups/%s/fields/updated?updateMask=indexConfig' \
  --header "Authorization: Bearer $(gcloud auth print-access-token)" --header 'Content-Type: application/json' \
  --data '%s'

It is ready after some minutes. (Firestore says: %s)`, c.o.Project, c.o.Database, ThreadsCollection, updatedIndexes, words)
}
