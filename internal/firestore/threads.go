package firestore

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"cloud.google.com/go/firestore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"docent/internal/chatkit"
	"docent/internal/ratelimit"
	"docent/internal/redact"
)

// The collections of conversations: visitors/{owner}/threads/{thread ID}. The TTL policy
// is for the second one, as a collection group.
const (
	visitorsCollection = "visitors"
	ThreadsCollection  = "threads"
)

var (
	errUnreadable = errors.New("a conversation in Firestore cannot be read: check that nothing but Docent writes to the collections named " + ThreadsCollection)
	// errHeld is an outage for one conversation alone.
	errHeld = errors.New("Firestore answers, but not in time for one conversation: another client may hold its document") //nolint:staticcheck // Like the sentences of an outage.
)

// Threads keeps conversations for any number of instances, in one document for each.
// It implements [chatkit.Store].
type Threads struct {
	client   *Client
	keep     time.Duration
	ownerKey []byte
	now      func() time.Time
}

// threadDocument is a thread as it is stored, below the document of its owner, which
// does not exist.
type threadDocument struct {
	Title   string    `firestore:"title"`
	Created time.Time `firestore:"created"`
	Updated time.Time `firestore:"updated"`
	// ExpiresAt is for the TTL policy alone. Whether a thread has expired is decided
	// from Updated, since the time that threads are kept may have changed.
	ExpiresAt time.Time `firestore:"expires_at"`
	Closed    bool      `firestore:"closed"`
	Items     string    `firestore:"items"` // As chatkit encodes them.
}

// Threads returns the conversations, each kept for as long after its last update.
// ownerKey is the secret that hides in the documents' paths which visitor they are
// of, of 32 bytes or more. It must be the same on all instances, and serve nothing
// else. With another key, all conversations are lost.
func (c *Client) Threads(keep time.Duration, ownerKey []byte, now func() time.Time) (*Threads, error) {
	if len(ownerKey) < minIDKey {
		return nil, fmt.Errorf("the key for the owners of conversations has %d bytes, fewer than %d", len(ownerKey), minIDKey)
	}
	return &Threads{client: c, keep: keep, ownerKey: slices.Clone(ownerKey), now: now}, nil
}

// Get implements [chatkit.Store]. Its errors besides chatkit's are context.Canceled,
// and what the operator must do, with its cause.
func (s *Threads) Get(ctx context.Context, visitor, id string) (chatkit.Thread, error) {
	found, err := s.find(ctx, visitor, id)
	if err != nil {
		return chatkit.Thread{}, err
	}
	return threadIn(found, true)
}

// Put implements [chatkit.Store]. Its errors are those of Get and ErrConflict.
func (s *Threads) Put(ctx context.Context, visitor string, t chatkit.Thread) (version int64, err error) {
	if !chatkit.ValidID(t.ID) {
		return 0, chatkit.ErrNotFound
	}
	items, err := chatkit.EncodeItems(t.Items)
	if err != nil {
		return 0, err
	}
	ref := s.threads(visitor).Doc(t.ID)
	d := threadDocument{t.Title, t.Created, t.Updated, t.Updated.Add(s.keep), t.Closed, string(items)}

	x, ctx := s.client.begin(ctx)
	var written *firestore.WriteResult
	if t.Version == 0 {
		written, err = ref.Create(ctx, d)
	} else {
		written, err = ref.Update(ctx, []firestore.Update{
			{Path: "title", Value: d.Title},
			{Path: "updated", Value: d.Updated},
			{Path: "expires_at", Value: d.ExpiresAt},
			{Path: "closed", Value: d.Closed},
			{Path: "items", Value: d.Items},
		}, firestore.LastUpdateTime(time.Unix(0, t.Version)))
	}
	switch status.Code(err) {
	case codes.OK:
		return written.UpdateTime.UnixNano(), nil
	case codes.AlreadyExists, codes.Aborted:
		return 0, chatkit.ErrConflict
	case codes.FailedPrecondition, codes.NotFound:
		// Firestore says one or the other for a document that is gone, the first also
		// for one that was changed or a database in Datastore mode, the second also for
		// a missing database. A read tells these apart.
		if t.Version != 0 {
			if _, err := s.find(ctx, visitor, t.ID); err != nil {
				return 0, err
			}
			return 0, chatkit.ErrConflict
		}
	}
	return 0, s.fault(ctx, x, t.ID, err)
}

// List implements [chatkit.Store]. Its errors are those of Get. It needs no composite
// index.
func (s *Threads) List(ctx context.Context, visitor string, p chatkit.Cursor) (threads []chatkit.Thread, more bool, err error) {
	order := firestore.Desc
	if p.Ascending {
		order = firestore.Asc
	}
	query := s.threads(visitor).Select("title", "created", "updated", "closed").
		Where("updated", ">", chatkit.TimeOf(s.now().Add(-s.keep)).Time).OrderBy("updated", order).
		Limit(p.Limit + 1)
	if p.After != "" {
		last, err := s.find(ctx, visitor, p.After)
		if errors.Is(err, chatkit.ErrNotFound) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		query = query.StartAfter(last)
	}

	x, ctx := s.client.begin(ctx)
	found, err := query.Documents(ctx).GetAll()
	if status.Code(err) == codes.Unavailable {
		// The connection broke under the answer. The client repeats other calls itself.
		found, err = query.Documents(ctx).GetAll()
	}
	if err != nil {
		return nil, false, s.fault(ctx, x, p.After, err)
	}
	if more = len(found) > p.Limit; more {
		found = found[:p.Limit]
	}
	for _, doc := range found {
		t, err := threadIn(doc, false)
		if err != nil {
			return nil, false, err
		}
		threads = append(threads, t)
	}
	return threads, more, nil
}

// Delete implements [chatkit.Store]. Its errors are those of Get.
func (s *Threads) Delete(ctx context.Context, visitor, id string) error {
	found, err := s.find(ctx, visitor, id)
	if err != nil {
		return err
	}
	x, ctx := s.client.begin(ctx)
	_, err = found.Ref.Delete(ctx, firestore.Exists)
	switch status.Code(err) {
	case codes.OK:
		return nil
	case codes.NotFound: // Not the database: it has just answered.
		return chatkit.ErrNotFound
	}
	return s.fault(ctx, x, id, err)
}

// find reads a thread's document. For one that is missing or has expired, the error
// is [chatkit.ErrNotFound].
func (s *Threads) find(ctx context.Context, visitor, id string) (*firestore.DocumentSnapshot, error) {
	if !chatkit.ValidID(id) {
		return nil, chatkit.ErrNotFound
	}
	x, ctx := s.client.begin(ctx)
	// Not Get, which reports a missing document with the same error as a missing
	// database.
	found, err := s.client.client.GetAll(ctx, []*firestore.DocumentRef{s.threads(visitor).Doc(id)})
	if err != nil {
		return nil, s.fault(ctx, x, id, err)
	}
	if !found[0].Exists() {
		return nil, chatkit.ErrNotFound
	}
	var d threadDocument
	if err := found[0].DataTo(&d); err != nil {
		return nil, errUnreadable // The cause may quote the document.
	}
	if !s.now().Before(d.Updated.Add(s.keep)) {
		return nil, chatkit.ErrNotFound
	}
	return found[0], nil
}

// threadIn reads a document. Its errors quote none of it.
func threadIn(doc *firestore.DocumentSnapshot, withItems bool) (chatkit.Thread, error) {
	var d threadDocument
	if err := doc.DataTo(&d); err != nil {
		return chatkit.Thread{}, errUnreadable
	}
	t := chatkit.Thread{
		ID: doc.Ref.ID, Title: d.Title, Closed: d.Closed, Created: d.Created, Updated: d.Updated,
		Version: doc.UpdateTime.UnixNano(),
	}
	if withItems {
		var err error
		if t.Items, err = chatkit.DecodeItems([]byte(d.Items)); err != nil {
			return chatkit.Thread{}, fmt.Errorf("%w: %w", errUnreadable, err)
		}
	}
	return t, nil
}

// fault returns a sentence for the operator, which does not name the thread.
func (s *Threads) fault(ctx context.Context, x *call, id string, err error) error {
	x.hide = redact.Secrets(id)
	if err = s.client.diagnose(ctx, x, err); errors.Is(err, ratelimit.ErrContended) {
		return errHeld
	}
	return err
}

// threads returns a visitor's threads. A visitor can only name documents in it.
func (s *Threads) threads(visitor string) *firestore.CollectionRef {
	mac := hmac.New(sha256.New, s.ownerKey)
	mac.Write([]byte(visitor))
	owner := hex.EncodeToString(mac.Sum(nil))
	return s.client.client.Collection(visitorsCollection).Doc(owner).Collection(ThreadsCollection)
}
