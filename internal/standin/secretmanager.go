package standin

import (
	"context"
	"fmt"
	"hash/crc32"
	"net"
	"regexp"
	"strconv"
	"sync"
	"time"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// SecretManager is a stand-in for Google's Secret Manager: the part of its gRPC
// service that reads secrets, without TLS and credentials. Its secrets are named
// PROJECT/NAME, as in sm://PROJECT/NAME.
type SecretManager struct {
	secretmanagerpb.UnimplementedSecretManagerServiceServer

	address string
	server  *grpc.Server

	mu      sync.Mutex
	secrets map[string]*storedSecret
	calls   chan struct{} // Closed, and replaced, at each call.
	delay   time.Duration
	gate    chan struct{} // Calls wait until it is closed, if there is one.
	down    bool
}

type storedSecret struct {
	versions []storedVersion
	calls    int
	corrupt  bool
	failure  error
}

type storedVersion struct {
	payload string
	state   secretmanagerpb.SecretVersion_State
}

// accessedVersion matches the name that a client asks for.
var accessedVersion = regexp.MustCompile(`^projects/([^/]+)/secrets/([^/]+)/versions/([^/]+)$`)

// NewSecretManager returns an empty stand-in that serves on 127.0.0.1 until it
// is closed.
func NewSecretManager() (*SecretManager, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for Secret Manager: %w", err)
	}
	m := &SecretManager{
		address: l.Addr().String(),
		server:  grpc.NewServer(),
		secrets: map[string]*storedSecret{},
		calls:   make(chan struct{}),
	}
	secretmanagerpb.RegisterSecretManagerServiceServer(m.server, m)
	go func() { _ = m.server.Serve(l) }() // It ends with Close.
	return m, nil
}

// Address is the host and port for SECRET_MANAGER_EMULATOR_HOST.
func (m *SecretManager) Address() string { return m.address }

// Close ends all calls and stops serving.
func (m *SecretManager) Close() { m.server.Stop() }

// Add stores a version of a secret and returns its number. The first is 1.
func (m *SecretManager) Add(secret, payload string) (version int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.secret(secret)
	s.versions = append(s.versions, storedVersion{payload, secretmanagerpb.SecretVersion_ENABLED})
	return len(s.versions)
}

// Disable makes a stored version unreadable until it is enabled.
func (m *SecretManager) Disable(secret string, version int) {
	m.setState(secret, version, secretmanagerpb.SecretVersion_DISABLED)
}

// Enable makes a disabled version readable again.
func (m *SecretManager) Enable(secret string, version int) {
	m.setState(secret, version, secretmanagerpb.SecretVersion_ENABLED)
}

// Destroy makes a stored version unreadable for good.
func (m *SecretManager) Destroy(secret string, version int) {
	m.setState(secret, version, secretmanagerpb.SecretVersion_DESTROYED)
}

func (m *SecretManager) setState(secret string, version int, state secretmanagerpb.SecretVersion_State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.secret(secret).versions[version-1].state = state
}

// Corrupt makes the payloads of a secret arrive with wrong checksums, or with the
// right ones again.
func (m *SecretManager) Corrupt(secret string, corrupt bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.secret(secret).corrupt = corrupt
}

// Deny takes the permission to read a secret away.
func (m *SecretManager) Deny(secret string) {
	m.Fail(secret, status.Errorf(codes.PermissionDenied,
		"Permission 'secretmanager.versions.access' denied for resource '%s' (or it may not exist).", secret))
}

// Fail makes all calls for a secret fail with err, or succeed again if err is nil.
func (m *SecretManager) Fail(secret string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.secret(secret).failure = err
}

// SetDown makes all calls fail with Unavailable, or ends that.
func (m *SecretManager) SetDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

// SetDelay makes all calls take at least this long.
func (m *SecretManager) SetDelay(delay time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.delay = delay
}

// Hold makes all calls from now on hang until release is called or their clients
// give up. They read the secret after that. A later Hold has its own gate.
func (m *SecretManager) Hold() (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	gate := make(chan struct{})
	m.gate = gate
	return sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.gate == gate {
			m.gate = nil
		}
		close(gate)
	})
}

// Calls returns how often a secret was asked for, whatever the answer was.
func (m *SecretManager) Calls(secret string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.secret(secret).calls
}

// AwaitCalls returns once a secret was asked for n times, or with an error when
// ctx ends.
func (m *SecretManager) AwaitCalls(ctx context.Context, secret string, n int) error {
	for {
		m.mu.Lock()
		calls, next := m.secret(secret).calls, m.calls
		m.mu.Unlock()
		if calls >= n {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return fmt.Errorf("%s was asked for %d times instead of %d: %w", secret, calls, n, ctx.Err())
		}
	}
}

// AccessSecretVersion implements the service.
func (m *SecretManager) AccessSecretVersion(
	ctx context.Context, r *secretmanagerpb.AccessSecretVersionRequest,
) (*secretmanagerpb.AccessSecretVersionResponse, error) {
	asked := accessedVersion.FindStringSubmatch(r.GetName())
	if asked == nil {
		return nil, status.Error(codes.InvalidArgument, "Resource name must match 'projects/*/secrets/*/versions/*'.")
	}
	project, name, version := asked[1], asked[2], asked[3]
	if err := m.arrive(ctx, project+"/"+name); err != nil {
		return nil, err
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.secret(project + "/" + name)
	path := "projects/" + project + "/secrets/" + name
	switch {
	case m.down:
		return nil, status.Error(codes.Unavailable, "The service is currently unavailable.")
	case s.failure != nil:
		return nil, s.failure
	case len(s.versions) == 0:
		return nil, status.Errorf(codes.NotFound, "Secret [%s] not found or has no versions.", path)
	}
	// Latest is the newest version, also where it cannot be read.
	number := len(s.versions)
	if version != "latest" {
		number, _ = strconv.Atoi(version)
	}
	path += "/versions/" + strconv.Itoa(number)
	if number < 1 || number > len(s.versions) {
		return nil, status.Errorf(codes.NotFound, "Secret Version [%s] not found.", path)
	}
	v := s.versions[number-1]
	if v.state != secretmanagerpb.SecretVersion_ENABLED {
		return nil, status.Errorf(codes.FailedPrecondition, "Secret Version [%s] is in %s state.", path, v.state)
	}
	data := []byte(v.payload)
	checksum := int64(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
	if s.corrupt {
		checksum++
	}
	return &secretmanagerpb.AccessSecretVersionResponse{
		Name:    path,
		Payload: &secretmanagerpb.SecretPayload{Data: data, DataCrc32C: &checksum},
	}, nil
}

// arrive counts a call, and delays it as [SecretManager.Hold] and
// [SecretManager.SetDelay] say.
func (m *SecretManager) arrive(ctx context.Context, secret string) error {
	m.mu.Lock()
	m.secret(secret).calls++
	close(m.calls)
	m.calls = make(chan struct{})
	gate, delay := m.gate, m.delay
	m.mu.Unlock()

	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	return nil
}

// secret returns the record of a secret, whether it has versions or not. mu is
// held.
func (m *SecretManager) secret(name string) *storedSecret {
	if m.secrets[name] == nil {
		m.secrets[name] = &storedSecret{}
	}
	return m.secrets[name]
}
