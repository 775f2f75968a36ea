package app

import (
	"context"
	"log/slog"

	"cloud.google.com/go/compute/metadata"

	"docent/internal/config"
	"docent/internal/secrets"
)

// OpenSecrets reads secrets as the configuration says. On Cloud Run its errors
// name the service account that lacks a permission.
func OpenSecrets(ctx context.Context, c config.Config, log *slog.Logger, wants ...secrets.Want) (*secrets.Source, error) {
	o := secrets.Options{TTL: c.SecretsTTL, EmulatorHost: c.SecretManagerEmulator, Log: log}
	if c.OnCloudRun {
		o.ServiceAccount = func(ctx context.Context) (string, error) { return metadata.EmailWithContext(ctx, "default") }
	}
	return secrets.Open(ctx, o, wants...) //nolint:wrapcheck // Its errors name the variable and the secret.
}
