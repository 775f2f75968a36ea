package firestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/googleapis/gax-go/v2/apierror"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"docent/internal/ratelimit"
	"docent/internal/redact"
)

// diagnose tells contention from an outage. Contention is Aborted to the last
// attempt, or a wait for one document until the deadline while Firestore answers
// others, or this same call: AlreadyExists and then silence means that another
// instance holds the document.
func (c *Client) diagnose(ctx context.Context, x *call, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("asking Firestore: %w", ctx.Err())
	}
	waited := isDeadline(err) && (x.hung || x.failure == nil)
	if status.Code(err) == codes.Aborted || waited && c.answers.Load() != x.answers {
		return ratelimit.ErrContended
	}
	return c.outage(x, err)
}

func isDeadline(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded
}

// outageError is a sentence for the operator, with its cause.
type outageError struct {
	message string
	cause   error
}

func (e *outageError) Error() string { return e.message }
func (e *outageError) Unwrap() error { return e.cause }

func (c *Client) outage(x *call, err error) error {
	cause := cmp.Or(x.failure, err)
	if isDeadline(cause) {
		cause = context.DeadlineExceeded // Also where gRPC has its own error for it.
	}
	message, isAnswer := c.advice(cause)
	if isAnswer {
		message += " (" + reply(cause, x.hide) + ")"
	}
	return &outageError{message, cause}
}

// advice returns what the operator must do, and whether Firestore's own words add to
// it.
func (c *Client) advice(err error) (message string, isAnswer bool) {
	switch code := status.Code(err); {
	case isDeadline(err), code == codes.Unavailable:
		message = "Firestore cannot be reached"
		if isDeadline(err) {
			message = "Firestore does not answer"
		}
		if c.o.Emulator != "" {
			return message + ": start the emulator that FIRESTORE_EMULATOR_HOST names, or unset the variable", !isDeadline(err)
		}
		return message + ": check the way to firestore.googleapis.com, and https://status.cloud.google.com", !isDeadline(err)
	case code == codes.PermissionDenied && isAPIDisabled(err):
		return "Firestore is not enabled in project " + c.o.Project +
			": gcloud services enable firestore.googleapis.com --project=" + c.o.Project, false
	case code == codes.PermissionDenied:
		return "Firestore refuses the service account that Docent runs as: gcloud projects add-iam-policy-binding " + c.o.Project +
			" --member=serviceAccount:SERVICE_ACCOUNT --role=roles/datastore.user", true
	case code == codes.NotFound:
		return fmt.Sprintf("Firestore has no database %s in project %s: gcloud firestore databases create --database='%[1]s' --project=%[2]s --location=LOCATION",
			c.o.Database, c.o.Project), true
	case code == codes.ResourceExhausted:
		return "Firestore's quota is used up: raise it or enable billing: https://console.cloud.google.com/iam-admin/quotas?project=" + c.o.Project, true
	case code == codes.Unauthenticated:
		return "Firestore does not accept Docent's credentials: on a workstation run gcloud auth application-default login, on Cloud Run check the service account", true
	default:
		return "Firestore does not work", true
	}
}

// isAPIDisabled reports whether permission is denied because the API is not enabled
// in the project.
func isAPIDisabled(err error) bool {
	e, ok := apierror.FromError(err)
	return ok && e.Reason() == "SERVICE_DISABLED"
}

// maxReply is how many characters of Firestore's own words are reported.
const maxReply = 300

// reply returns Firestore's own words in one line, without the parts that name a
// bucket, an owner of conversations or an address, and without what a rule hides.
func reply(err error, hide redact.Rule) string {
	s, ok := status.FromError(err)
	if !ok {
		return redact.Text(err.Error(), maxReply, redact.Names, hide)
	}
	return s.Code().String() + ": " + redact.Text(s.Message(), maxReply, redact.Names, hide)
}
