package secretmanager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/googleapis/gax-go/v2/apierror"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"docent/internal/redact"
	"docent/internal/secrets"
)

// loginCommand gives a developer's machine the developer's own credentials.
const loginCommand = "gcloud auth application-default login"

// accountTimeout bounds the call that asks for the service account's name.
const accountTimeout = time.Second

// maxReply is how many characters of Secret Manager's own words are reported.
const maxReply = 300

// versionNumber finds in Secret Manager's message the number of the version that
// latest stands for.
var versionNumber = regexp.MustCompile(`/versions/([0-9]+)\]`)

// explain says why a call failed and how an operator fixes that.
func (c *Client) explain(ctx context.Context, r secrets.Ref, cause error) error {
	st := status.Convert(cause)
	problem, fix := "Secret Manager failed", ""
	switch st.Code() {
	case codes.NotFound:
		problem = "the secret, or this version of it, does not exist"
		fix = fmt.Sprintf("create it with `gcloud secrets create %s --project=%s --replication-policy=automatic --data-file=-`, or add a version with %s",
			r.Name(), r.Project(), addCommand(r))
	case codes.PermissionDenied:
		problem, fix = c.denied(ctx, r, cause)
	case codes.FailedPrecondition:
		problem, fix = unusable(r, st.Message())
	case codes.Unauthenticated:
		problem = "the credentials are not accepted"
		fix = "on Google Cloud, check that the service account still exists and is enabled; elsewhere, log in with `" + loginCommand + "`"
	case codes.Canceled:
		problem = "interrupted while waiting for Secret Manager"
	case codes.ResourceExhausted:
		problem = "Secret Manager's quota is used up"
		fix = "raise it at https://console.cloud.google.com/iam-admin/quotas?project=" + r.Project()
	case codes.Unavailable, codes.DeadlineExceeded:
		problem = "Secret Manager does not answer"
		if c.options.EmulatorHost != "" {
			fix = "check that SECRET_MANAGER_EMULATOR_HOST=" + c.options.EmulatorHost + " is right"
		} else {
			fix = "check that secretmanager.googleapis.com can be reached from here"
		}
	}
	text := fmt.Sprintf("%s (%v: %s)", problem, st.Code(), redact.Text(st.Message(), maxReply))
	if fix != "" {
		text += ": " + fix
	}
	return errors.New(text)
}

// denied tells a project where the API is not enabled from an account that lacks
// the role.
func (c *Client) denied(ctx context.Context, r secrets.Ref, cause error) (problem, fix string) {
	if isAPIDisabled(cause) {
		return "the Secret Manager API is not enabled in the project",
			fmt.Sprintf("enable it with `gcloud services enable secretmanager.googleapis.com --project=%s`", r.Project())
	}
	who, member := "the account this runs as", "SERVICE_ACCOUNT"
	if email := c.serviceAccount(ctx); email != "" {
		who, member = email, email
	}
	return who + " may not read it, or it does not exist",
		fmt.Sprintf("grant the role with `gcloud secrets add-iam-policy-binding %s --project=%s --member=serviceAccount:%s --role=roles/secretmanager.secretAccessor`",
			r.Name(), r.Project(), member)
}

// isAPIDisabled reports whether permission was denied because the API is not
// enabled in the project, whatever the account's roles are.
func isAPIDisabled(err error) bool {
	e, ok := apierror.FromError(err)
	return ok && e.Reason() == "SERVICE_DISABLED"
}

// serviceAccount returns the email address of the account this process runs as,
// or nothing if that is not known. It has a deadline of its own, because the
// call's may be about to pass. The caller can still cancel it.
func (c *Client) serviceAccount(call context.Context) string {
	if c.options.ServiceAccount == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(call), accountTimeout)
	defer cancel()
	stop := context.AfterFunc(call, func() {
		if errors.Is(call.Err(), context.Canceled) {
			cancel()
		}
	})
	defer stop()
	email, err := c.options.ServiceAccount(ctx)
	if err != nil {
		return ""
	}
	return email
}

// unusable tells by Secret Manager's message why a version cannot be read.
func unusable(r secrets.Ref, message string) (problem, fix string) {
	number := "VERSION"
	if found := versionNumber.FindStringSubmatch(message); found != nil {
		number = found[1]
	}
	switch {
	case strings.Contains(message, "DESTROYED"):
		return "the version is destroyed", Replace(r)
	case strings.Contains(message, "DISABLED"):
		return "the version is disabled", fmt.Sprintf("enable it with `gcloud secrets versions enable %s --secret=%s --project=%s`",
			cmp.Or(r.Version(), number), r.Name(), r.Project())
	}
	return "the version cannot be used", ""
}

func damaged(r secrets.Ref) error {
	return errors.New("its checksum is wrong, so it was damaged in storage or on the way here: " +
		"try again, and if that does not help, add it again with " + addCommand(r))
}

// Replace says how an operator replaces a version that cannot be used. It is
// [secrets.Options.Replace].
func Replace(r secrets.Ref) string {
	advice := "add another version with " + addCommand(r)
	if r.Pinned() {
		advice += " and refer to that version"
	}
	return advice
}

func addCommand(r secrets.Ref) string {
	return fmt.Sprintf("`gcloud secrets versions add %s --project=%s --data-file=-`", r.Name(), r.Project())
}
