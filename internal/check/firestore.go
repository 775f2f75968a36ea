package check

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	admin "cloud.google.com/go/firestore/apiv1/admin"
	"cloud.google.com/go/firestore/apiv1/admin/adminpb"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"docent/internal/app"
	"docent/internal/config"
	"docent/internal/firestore"
	"docent/internal/ratelimit"
	"docent/internal/redact"
)

const (
	// connectTimeout bounds the first read, with the connection and the token
	// that it needs.
	connectTimeout = 5 * time.Second
	// adminTimeout bounds the look-up of the TTL policy.
	adminTimeout = 5 * time.Second
	// idKeySize is the length of a key for the names of documents, in bytes.
	idKeySize = 32
	// ttlField is the field that the policy is for.
	ttlField = "expires_at"
)

// ttlChecks name the policies that delete documents, by their collection group.
func (c *checkup) ttlChecks() map[string]string {
	checks := map[string]string{ttlCheck: c.config.FirestoreCollection}
	if c.config.Docs() {
		checks[threadsTTLCheck] = firestore.ThreadsCollection
	}
	return checks
}

// firestore checks the store, and then the conversations in it and the policies that
// delete its documents.
func (c *checkup) firestore(ctx context.Context) {
	if c.config.Store == config.Memory {
		store := skipped("RATE_LIMIT_STORE is memory")
		if c.config.OnCloudRun {
			store.note("each instance counts on its own: an address gets RATE_LIMIT_PER_MINUTE times the number of instances")
		}
		c.set(firestoreCheck, store)
		c.set(threadsCheck, c.inMemory())
		for name := range c.ttlChecks() {
			c.set(name, skipped("RATE_LIMIT_STORE is memory"))
		}
		return
	}
	client, err := app.OpenStore(ctx, c.config)
	if err != nil {
		c.unavailable(fail("%s", redact.OneLine(err.Error())))
		return
	}
	defer client.Close() //nolint:errcheck // Everything has been answered.
	store := c.transaction(ctx, client)
	if store.Status == Fail {
		c.unavailable(store)
		return
	}
	c.set(firestoreCheck, store)
	var wg sync.WaitGroup
	if c.config.Docs() {
		wg.Go(func() { c.set(threadsCheck, c.threads(ctx, client)) })
	}
	for name, group := range c.ttlChecks() {
		if c.config.FirestoreEmulator != "" && len(c.admin) == 0 {
			c.set(name, skipped("the emulator has no TTL policies"))
			continue
		}
		wg.Go(func() { c.set(name, c.ttlPolicy(ctx, group)) })
	}
	wg.Wait()
}

// unavailable sets the results where the store does not work.
func (c *checkup) unavailable(store Result) {
	c.set(firestoreCheck, store)
	c.set(threadsCheck, skipped("Firestore has to answer first"))
	for name := range c.ttlChecks() {
		c.set(name, skipped("Firestore has to answer first"))
	}
}

// transaction makes the store count twice in a bucket that no visitor has: the
// first time creates the document, the second reads and updates it.
func (c *checkup) transaction(ctx context.Context, client *firestore.Client) Result {
	connect, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := client.Warm(connect, c.config.FirestoreCollection); err != nil {
		return fail("%s", redact.OneLine(err.Error()))
	}
	// A key of its own names a document that no visitor's bucket can have.
	key := make([]byte, idKeySize)
	rand.Read(key)
	store, err := client.Buckets(c.config.FirestoreCollection, key)
	if err != nil {
		return fail("%s", redact.OneLine(err.Error()))
	}
	bucket := ratelimit.Bucket{
		Name: "check", Key: ratelimit.KeyOf(netip.IPv6LinkLocalAllNodes()), Window: ratelimit.WindowOf(time.Now(), time.Minute),
	}
	began := time.Now()
	for i := range 2 {
		grant, err := c.grant(ctx, store, bucket, ratelimit.Ask{N: 1, Limit: 2, Seen: i > 0})
		switch want := (ratelimit.Grant{Before: i, N: 1}); {
		case errors.Is(err, ratelimit.ErrContended):
			return fail("Firestore did not finish a transaction in %s: see https://status.cloud.google.com, and check that the database is in a region near this service", app.StoreTimeout(c.config))
		case err != nil:
			return fail("%s", redact.OneLine(err.Error()))
		case grant != want:
			return fail("Firestore counted %+v instead of %+v: check that nothing else writes to the collection %s", grant, want, c.config.FirestoreCollection)
		}
	}
	where := fmt.Sprintf("counted and read back in %d ms, collection %s, database %s, project %s",
		time.Since(began).Milliseconds(), c.config.FirestoreCollection, c.config.FirestoreDatabase, c.config.Project)
	if c.config.FirestoreEmulator != "" {
		where += ", on the emulator"
	}
	return ok("%s", where)
}

// grant counts within the time that the service allows for it.
func (c *checkup) grant(ctx context.Context, store ratelimit.Store, b ratelimit.Bucket, ask ratelimit.Ask) (ratelimit.Grant, error) {
	ctx, cancel := context.WithTimeout(ctx, app.StoreTimeout(c.config))
	defer cancel()
	return store.Grant(ctx, b, ask)
}

// ttlPolicy checks that a policy deletes the documents of a collection group. It lists fields instead of
// getting the one, because the service has only roles/datastore.user, which
// includes the right to list.
func (c *checkup) ttlPolicy(ctx context.Context, group string) Result {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	client, err := admin.NewFirestoreAdminClient(ctx, append([]option.ClientOption{option.WithTelemetryDisabled()}, c.admin...)...)
	if err != nil {
		return fail("opening Firestore's admin API: %s", redact.Text(err.Error(), maxWords))
	}
	defer client.Close() //nolint:errcheck // Everything has been answered.
	fields := client.ListFields(ctx, &adminpb.ListFieldsRequest{
		Parent: fmt.Sprintf("projects/%s/databases/%s/collectionGroups/%s", c.config.Project, c.config.FirestoreDatabase, group),
		Filter: "ttlConfig:*",
	})
	for {
		field, err := fields.Next()
		switch {
		case errors.Is(err, iterator.Done):
			return c.noPolicy(group)
		case status.Code(err) == codes.PermissionDenied:
			return c.noPermission(group)
		case isOver(err):
			return fail("Firestore's admin API does not answer: try again, or check it yourself: %s", c.ttlCommand(group, "list"))
		case err != nil:
			return fail("Firestore's admin API failed (%s): check it yourself: %s", redact.Text(err.Error(), maxWords), c.ttlCommand(group, "list"))
		case strings.HasSuffix(field.GetName(), "/fields/"+ttlField) && field.GetTtlConfig() != nil:
			return c.policy(group, field.GetTtlConfig().GetState())
		}
	}
}

func (c *checkup) noPolicy(group string) Result {
	return fail("no TTL policy on %s, so documents are kept and paid for forever: %s", ttlField, c.ttlCommand(group, "update "+ttlField, "--enable-ttl"))
}

func (c *checkup) noPermission(group string) Result {
	return skipped("this account may not list the TTL policies (datastore.indexes.list, in roles/datastore.user): check it yourself: %s", c.ttlCommand(group, "list"))
}

func (c *checkup) policy(group string, state adminpb.Field_TtlConfig_State) Result {
	switch state {
	case adminpb.Field_TtlConfig_ACTIVE:
		return ok("documents are deleted within a day after %s", ttlField)
	case adminpb.Field_TtlConfig_CREATING:
		return ok("the policy on %s is being created, which takes some minutes", ttlField)
	default:
		return fail("the policy on %s is in state %s: disable it and enable it again: %s && %s", ttlField, state,
			c.ttlCommand(group, "update "+ttlField, "--disable-ttl"), c.ttlCommand(group, "update "+ttlField, "--enable-ttl"))
	}
}

// ttlCommand returns the gcloud command for the policies of a collection group.
func (c *checkup) ttlCommand(group, verb string, flags ...string) string {
	return strings.Join(append([]string{
		"gcloud firestore fields ttls", verb, "--collection-group=" + group,
		"--database='" + c.config.FirestoreDatabase + "'", "--project=" + c.config.Project,
	}, flags...), " ")
}

// isOver reports whether err only says that the time was over.
func isOver(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded
}
