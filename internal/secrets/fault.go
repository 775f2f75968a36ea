package secrets

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
)

// loginCommand gives a person's machine credentials of that person.
const loginCommand = "gcloud auth application-default login"

// accountTimeout bounds the question for the service account.
const accountTimeout = time.Second

// versionNumber finds the version that Secret Manager took latest for.
var versionNumber = regexp.MustCompile(`/versions/([0-9]+)\]`)

// explain says why a call failed and what would mend it, for whoever runs the
// service.
func (s *Source) explain(r Ref, cause error) error {
	st := status.Convert(cause)
	problem, mend := "Secret Manager failed", ""
	switch st.Code() {
	case codes.NotFound:
		problem = "there is no such secret, or no such version of it"
		mend = fmt.Sprintf("create it with `gcloud secrets create %s --project=%s --replication-policy=automatic --data-file=-`, or a version with %s",
			r.name, r.project, addCommand(r))
	case codes.PermissionDenied:
		problem, mend = s.denied(r, cause)
	case codes.FailedPrecondition:
		problem, mend = unusable(r, st.Message())
	case codes.Unauthenticated:
		problem = "the credentials are not accepted"
		mend = "on Google Cloud, look whether the service account still exists and is enabled; elsewhere, log in with `" + loginCommand + "`"
	case codes.Canceled:
		problem = "interrupted while Secret Manager was asked"
	case codes.Unavailable, codes.ResourceExhausted, codes.DeadlineExceeded:
		problem = "Secret Manager does not answer"
		if s.options.EmulatorHost != "" {
			mend = "look whether SECRET_MANAGER_EMULATOR_HOST=" + s.options.EmulatorHost + " is right"
		} else {
			mend = "look whether secretmanager.googleapis.com can be reached from here"
		}
	}
	text := fmt.Sprintf("%s (%v: %s)", problem, st.Code(), st.Message())
	if mend != "" {
		text += ": " + mend
	}
	return errors.New(text)
}

// denied tells the two reasons apart for which nothing may be read.
func (s *Source) denied(r Ref, cause error) (problem, mend string) {
	var api *apierror.APIError
	if errors.As(cause, &api) && api.Reason() == "SERVICE_DISABLED" {
		return "the project does not use Secret Manager",
			fmt.Sprintf("enable it with `gcloud services enable secretmanager.googleapis.com --project=%s`", r.project)
	}
	who, member := "the account this runs as", "SERVICE_ACCOUNT"
	if s.options.ServiceAccount != nil {
		// Not under the call's deadline, which may be about to pass.
		ctx, cancel := context.WithTimeout(s.ctx, accountTimeout)
		defer cancel()
		if email, err := s.options.ServiceAccount(ctx); err == nil && email != "" {
			who, member = email, email
		}
	}
	return who + " may not read it, or it does not exist",
		fmt.Sprintf("grant the role with `gcloud secrets add-iam-policy-binding %s --project=%s --member=serviceAccount:%s --role=roles/secretmanager.secretAccessor`",
			r.name, r.project, member)
}

// unusable tells by Secret Manager's message what keeps a version from use.
func unusable(r Ref, message string) (problem, mend string) {
	latestVersion := "VERSION"
	if found := versionNumber.FindStringSubmatch(message); found != nil {
		latestVersion = found[1]
	}
	switch {
	case strings.Contains(message, "DESTROYED"):
		problem, mend = "the version is destroyed", "add another with "+replaceCommand(r)
	case strings.Contains(message, "DISABLED"):
		problem = "the version is disabled"
		mend = fmt.Sprintf("enable it with `gcloud secrets versions enable %s --secret=%s --project=%s`", cmp.Or(r.version, latestVersion), r.name, r.project)
	default:
		problem = "the version cannot be used"
	}
	return problem, mend
}

func noProject() error {
	return errors.New("it has no project: set GOOGLE_CLOUD_PROJECT, or write sm://PROJECT/NAME")
}

func damaged(r Ref) error {
	return errors.New("its checksum is wrong, so it was damaged on the way here or where it is stored: " +
		"try again, and if it stays so add it anew with " + addCommand(r))
}

func empty(r Ref) error {
	return errors.New("it is empty: add a version that is not with " + addCommand(r))
}

func unsendable(r Ref, found string) error {
	return fmt.Errorf("there is %s in it, which no HTTP header can carry: add a version without that with %s", found, replaceCommand(r))
}

// replaceCommand replaces a version that cannot be used.
func replaceCommand(r Ref) string {
	if r.Pinned() {
		return addCommand(r) + " and refer to that"
	}
	return addCommand(r)
}

func addCommand(r Ref) string {
	return fmt.Sprintf("`gcloud secrets versions add %s --project=%s --data-file=-`", r.name, r.project)
}
