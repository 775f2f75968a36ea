package app

import (
	"context"
	"log/slog"

	"cloud.google.com/go/compute/metadata"

	"docent/internal/config"
	"docent/internal/secretmanager"
	"docent/internal/secrets"
)

// OpenSecrets reads secrets as the configuration says. On Cloud Run its errors
// name the service account that lacks a permission.
func OpenSecrets(ctx context.Context, c config.Config, log *slog.Logger, wants ...secrets.Want) (*secrets.Source, error) {
	manager := secretmanager.Options{EmulatorHost: c.SecretManagerEmulator}
	if c.OnCloudRun {
		manager.ServiceAccount = func(ctx context.Context) (string, error) { return metadata.EmailWithContext(ctx, "default") }
	}
	return secrets.Open(ctx, secrets.Options{
		Connect: func(ctx context.Context) (secrets.Store, error) { return secretmanager.Open(ctx, manager) },
		Replace: secretmanager.Replace,
		TTL:     c.SecretsTTL,
		Log:     log,
	}, wants...)
}
