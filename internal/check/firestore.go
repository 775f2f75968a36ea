package check

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	admin "cloud.google.com/go/firestore/apiv1/admin"
	"cloud.google.com/go/firestore/apiv1/admin/adminpb"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"docent/internal/app"
	"docent/internal/config"
	"docent/internal/ratelimit"
)

const (
	// connectTimeout bounds the first read, with the connection and the token
	// that it needs.
	connectTimeout = 5 * time.Second
	// adminTimeout bounds the question for the TTL policy.
	adminTimeout = 5 * time.Second
	// idKeySize is the length of a key for the names of documents, in bytes.
	idKeySize = 32
	// ttlField is the field that the policy is on.
	ttlField = "expires_at"
)

// firestore checks the store, and then what deletes its documents.
func (r *run) firestore(ctx context.Context) {
	if r.config.Store == config.Memory {
		store := skipped("RATE_LIMIT_STORE is memory")
		if r.config.OnCloudRun {
			store.note("each instance counts by itself: an address gets RATE_LIMIT_PER_MINUTE times the number of instances")
		}
		r.set(firestoreCheck, store)
		r.set(ttlCheck, skipped("RATE_LIMIT_STORE is memory"))
		return
	}
	store := r.transaction(ctx)
	r.set(firestoreCheck, store)
	switch {
	case store.Status == Fail:
		r.set(ttlCheck, skipped("Firestore has to answer first"))
	case r.config.FirestoreEmulator != "" && len(r.admin) == 0:
		r.set(ttlCheck, skipped("the emulator has no TTL policies"))
	default:
		r.set(ttlCheck, r.ttlPolicy(ctx))
	}
}

// transaction makes the store count twice in a bucket that is no visitor's: the
// first time creates the document, the second reads and updates it.
func (r *run) transaction(ctx context.Context) Result {
	client, err := app.OpenStore(ctx, r.config)
	if err != nil {
		return fail("%s", oneLine(err.Error()))
	}
	defer client.Close() //nolint:errcheck // Everything has been answered.
	connect, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := client.Warm(connect, r.config.FirestoreCollection); err != nil {
		return fail("%s", oneLine(err.Error()))
	}
	// A key of its own names a document that no visitor's bucket can have.
	key := make([]byte, idKeySize)
	rand.Read(key)
	store, err := client.Buckets(r.config.FirestoreCollection, key)
	if err != nil {
		return fail("%s", oneLine(err.Error()))
	}
	bucket := ratelimit.Bucket{
		Name: "check", Key: ratelimit.KeyOf(netip.IPv6LinkLocalAllNodes()), Window: ratelimit.WindowOf(time.Now(), time.Minute),
	}
	began := time.Now()
	for i := range 2 {
		grant, err := r.grant(ctx, store, bucket, ratelimit.Ask{N: 1, Limit: 2, Seen: i > 0})
		switch want := (ratelimit.Grant{Before: i, N: 1}); {
		case errors.Is(err, ratelimit.ErrContended):
			return fail("Firestore did not finish a transaction in %s: look at https://status.cloud.google.com, and whether it is far from here", app.StoreTimeout(r.config))
		case err != nil:
			return fail("%s", oneLine(err.Error()))
		case grant != want:
			return fail("Firestore counted %+v instead of %+v: does something else write to the collection %s?", grant, want, r.config.FirestoreCollection)
		}
	}
	where := fmt.Sprintf("counted and read back in %d ms, collection %s, database %s, project %s",
		time.Since(began).Milliseconds(), r.config.FirestoreCollection, r.config.FirestoreDatabase, r.config.Project)
	if r.config.FirestoreEmulator != "" {
		where += ", on the emulator"
	}
	return ok("%s", where)
}

// grant asks with the service's own patience.
func (r *run) grant(ctx context.Context, store ratelimit.Store, b ratelimit.Bucket, ask ratelimit.Ask) (ratelimit.Grant, error) {
	ctx, cancel := context.WithTimeout(ctx, app.StoreTimeout(r.config))
	defer cancel()
	return store.Grant(ctx, b, ask)
}

// ttlPolicy asks whether documents are deleted. It lists fields rather than get
// the one because roles/datastore.user, all that the service has, includes the
// right to list.
func (r *run) ttlPolicy(ctx context.Context) Result {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	client, err := admin.NewFirestoreAdminClient(ctx, append([]option.ClientOption{option.WithTelemetryDisabled()}, r.admin...)...)
	if err != nil {
		return fail("opening Firestore's admin API: %s", oneLine(err.Error()))
	}
	defer client.Close() //nolint:errcheck // Everything has been answered.
	fields := client.ListFields(ctx, &adminpb.ListFieldsRequest{
		Parent: fmt.Sprintf("projects/%s/databases/%s/collectionGroups/%s", r.config.Project, r.config.FirestoreDatabase, r.config.FirestoreCollection),
		Filter: "ttlConfig:*",
	})
	for {
		field, err := fields.Next()
		switch {
		case errors.Is(err, iterator.Done):
			return r.noPolicy()
		case status.Code(err) == codes.PermissionDenied:
			return r.mayNotLook()
		case isOver(err):
			return fail("Firestore's admin API does not answer: try again, or look by yourself: %s", r.ttlCommand("list"))
		case err != nil:
			return fail("Firestore's admin API failed (%s): look by yourself: %s", oneLine(err.Error()), r.ttlCommand("list"))
		case strings.HasSuffix(field.GetName(), "/fields/"+ttlField) && field.GetTtlConfig() != nil:
			return r.policy(field.GetTtlConfig().GetState())
		}
	}
}

func (r *run) noPolicy() Result {
	return fail("no TTL policy on %s, so documents are kept and paid for forever: %s", ttlField, r.ttlCommand("update "+ttlField, "--enable-ttl"))
}

func (r *run) mayNotLook() Result {
	return skipped("this account may not list the TTL policies (datastore.indexes.list, in roles/datastore.user): look by yourself: %s", r.ttlCommand("list"))
}

func (r *run) policy(state adminpb.Field_TtlConfig_State) Result {
	switch state {
	case adminpb.Field_TtlConfig_ACTIVE:
		return ok("documents are deleted within a day after %s", ttlField)
	case adminpb.Field_TtlConfig_CREATING:
		return ok("the policy on %s is being created, which takes some minutes", ttlField)
	default:
		return fail("the policy on %s is in state %s: switch it off and on again: %s && %s", ttlField, state,
			r.ttlCommand("update "+ttlField, "--disable-ttl"), r.ttlCommand("update "+ttlField, "--enable-ttl"))
	}
}

// ttlCommand returns the gcloud command for the policies of the collection.
func (r *run) ttlCommand(verb string, flags ...string) string {
	return strings.Join(append([]string{
		"gcloud firestore fields ttls", verb, "--collection-group=" + r.config.FirestoreCollection,
		"--database='" + r.config.FirestoreDatabase + "'", "--project=" + r.config.Project,
	}, flags...), " ")
}

// isOver reports whether err says no more than that the time was over.
func isOver(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded
}
