package firestore

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/firestore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"docent/internal/ratelimit"
)

const (
	// keepFor is how long a bucket is kept after its window, for an operator who
	// looks into a complaint. Then a TTL policy on expires_at deletes it.
	keepFor = time.Hour
	// minIDKey is the length in bytes that makes guessing the key hopeless.
	minIDKey = 32
)

// Buckets counts rate limits for any number of instances, in one document for each
// bucket. It implements [ratelimit.Store].
type Buckets struct {
	client     *Client
	collection *firestore.CollectionRef
	idKey      []byte
}

// bucketDocument is a bucket as it is stored. Nothing in it tells whose it is.
type bucketDocument struct {
	Count     int       `firestore:"count"`
	ExpiresAt time.Time `firestore:"expires_at"`
}

// Buckets returns the buckets in a collection. idKey is the secret behind the
// documents' IDs, of 32 bytes or more: with a shorter one, a reader of the
// documents could try all addresses. It must be the same on all instances, and
// serve nothing else.
func (c *Client) Buckets(collection string, idKey []byte) (*Buckets, error) {
	if collection == "" || strings.Contains(collection, "/") {
		return nil, fmt.Errorf("%q cannot be a Firestore collection", collection)
	}
	if len(idKey) < minIDKey {
		return nil, fmt.Errorf("the key for bucket IDs has %d bytes, fewer than %d", len(idKey), minIDKey)
	}
	return &Buckets{client: c, collection: c.client.Collection(collection), idKey: slices.Clone(idKey)}, nil
}

// Grant implements [ratelimit.Store]. Its errors are [ratelimit.ErrContended],
// context.Canceled, and what the operator must do about an outage, with its cause.
func (s *Buckets) Grant(ctx context.Context, b ratelimit.Bucket, ask ratelimit.Ask) (ratelimit.Grant, error) {
	x, ctx := s.client.begin(ctx)
	g, err := s.grant(ctx, b, ask)
	if err != nil {
		return ratelimit.Grant{}, s.client.diagnose(ctx, x, err)
	}
	return g, nil
}

// Return implements [ratelimit.Store]. Its errors are those of Grant.
func (s *Buckets) Return(ctx context.Context, b ratelimit.Bucket, n int) error {
	x, ctx := s.client.begin(ctx)
	err := s.update(ctx, b, func(before int) (after int) { return max(0, before-n) })
	if err != nil {
		return s.client.diagnose(ctx, x, err)
	}
	return nil
}

func (s *Buckets) grant(ctx context.Context, b ratelimit.Bucket, ask ratelimit.Ask) (ratelimit.Grant, error) {
	if !ask.Seen {
		g := ask.From(0)
		_, err := s.document(b).Create(ctx, bucketDocument{g.N, expiry(b)})
		switch status.Code(err) {
		case codes.OK:
			return g, nil
		case codes.AlreadyExists, codes.Aborted:
			// Another instance created it, or is creating it. Or this one did and the
			// answer was lost: then what it granted is lost too.
		default:
			return ratelimit.Grant{}, err //nolint:wrapcheck // Grant makes a sentence of it.
		}
	}
	var g ratelimit.Grant
	take := func(before int) (after int) {
		g = ask.From(before)
		return before + g.N
	}
	err := s.update(ctx, b, take)
	switch status.Code(err) {
	case codes.Unavailable, codes.InvalidArgument:
		// The connection broke where the client does not repeat the call: under a read
		// that had begun to answer, or under a Commit that was done. The client repeats
		// that Commit and is told that the transaction does not exist any more.
		err = s.update(ctx, b, take)
	}
	if err != nil {
		return ratelimit.Grant{}, err // Whatever it has counted, nothing is granted.
	}
	return g, nil
}

// update changes the count of a bucket, which may not exist, in one transaction.
func (s *Buckets) update(ctx context.Context, b ratelimit.Bucket, change func(before int) (after int)) error {
	doc := s.document(b)
	return s.client.client.RunTransaction(ctx, func(_ context.Context, tx *firestore.Transaction) error { //nolint:wrapcheck // Its callers make a sentence of it.
		found, err := tx.GetAll([]*firestore.DocumentRef{doc})
		if err != nil {
			return err //nolint:wrapcheck // RunTransaction looks for Aborted.
		}
		before, err := countIn(found[0])
		if err != nil {
			return err
		}
		after := change(before)
		if after == before {
			// Not an error: it would cost a Rollback, and be taken for a failure. The
			// empty Commit gives the lock back.
			return nil
		}
		return tx.Set(doc, bucketDocument{after, expiry(b)})
	})
}

// countIn reads the count. One that is not a number from 0 is refused: read as 0,
// it would open the bucket to everybody.
func countIn(doc *firestore.DocumentSnapshot) (int, error) {
	if !doc.Exists() {
		return 0, nil
	}
	field, err := doc.DataAt("count")
	count, ok := field.(int64)
	if err != nil || !ok || count < 0 {
		return 0, errors.New("a document in the collection of buckets has no valid count: check that nothing else writes to it")
	}
	return int(count), nil
}

func expiry(b ratelimit.Bucket) time.Time { return b.Window.End().Add(keepFor) }

// document returns a bucket's document. Without the key, nothing in its ID tells
// the address, nor that two windows belong to one visitor.
func (s *Buckets) document(b ratelimit.Bucket) *firestore.DocumentRef {
	mac := hmac.New(sha256.New, s.idKey)
	if b.Name != unnamed {
		mac.Write([]byte(b.Name + "\x00"))
	}
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(b.Key)))
	mac.Write(binary.BigEndian.AppendUint32(nil, b.Window.Index))
	return s.collection.Doc(hex.EncodeToString(mac.Sum(nil)))
}

// unnamed is the limiter whose name is not part of its documents' IDs: it was the
// only one, and a deployment must not count the current minute twice. Its text
// under the MAC has 12 bytes and no other limiter's is as short, since theirs have
// a name and a NUL before the same 12.
const unnamed = "per-ip"
