//go:build unix

package standin

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// ErrNoEmulator is returned where the Firestore emulator is not installed.
var ErrNoEmulator = errors.New("no Firestore emulator: install gcloud, Java, and " +
	"`gcloud components install cloud-firestore-emulator` (or google-cloud-cli-firestore-emulator with apt), " +
	"or set FIRESTORE_EMULATOR_HOST to one that runs")

const (
	// emulatorReady is in the line that the emulator prints when it serves.
	emulatorReady = "Dev App Server is now running"
	// emulatorNoJava is in gcloud's message when Java is missing or too old.
	emulatorNoJava = "JRE installed and on your system PATH"
	// emulatorPatience is how long it may take to start on a busy machine.
	emulatorPatience = time.Minute
	// emulatorTries is how many ports are tried: another process may take a port
	// between its choice and the emulator's start.
	emulatorTries = 3
)

// FirestoreEmulator is a Firestore on this machine, empty when it starts. The
// projects in it are isolated from each other.
type FirestoreEmulator struct {
	address string

	// Of the process, if this one started it and it runs.
	guard *exec.Cmd
	alive io.Closer     // Ends the guard.
	ended chan struct{} // Closed when the emulator has ended.
}

// OpenFirestoreEmulator returns the emulator that FIRESTORE_EMULATOR_HOST names,
// else one started by [StartFirestoreEmulator].
func OpenFirestoreEmulator(ctx context.Context) (*FirestoreEmulator, error) {
	if address := os.Getenv("FIRESTORE_EMULATOR_HOST"); address != "" {
		return &FirestoreEmulator{address: address}, nil
	}
	return StartFirestoreEmulator(ctx)
}

// StartFirestoreEmulator starts an emulator on a free loopback port and waits
// until it serves, which takes some seconds. It returns [ErrNoEmulator] where
// none is installed. The emulator ends with this process at the latest.
func StartFirestoreEmulator(ctx context.Context) (*FirestoreEmulator, error) {
	var failures []error
	for range emulatorTries {
		address, err := freeAddress(ctx)
		if err != nil {
			return nil, err
		}
		e := &FirestoreEmulator{address: address}
		if err = e.Start(ctx); err == nil {
			return e, nil
		}
		failures = append(failures, err)
		if errors.Is(err, ErrNoEmulator) || ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(failures...)
}

// Address returns the emulator's host and port, for FIRESTORE_EMULATOR_HOST.
func (e *FirestoreEmulator) Address() string { return e.address }

// Start starts a stopped emulator again, empty, on the same port, and waits
// until it serves.
func (e *FirestoreEmulator) Start(ctx context.Context) error {
	gcloud, err := findEmulator()
	if err != nil {
		return err
	}
	output, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("starting the Firestore emulator: %w", err)
	}

	// The context bounds only the start.
	guard, alive, err := Guard(gcloud, "emulators", "firestore", "start", "--host-port="+e.address)
	if err == nil {
		guard.Env = append(os.Environ(),
			"CLOUDSDK_CORE_DISABLE_PROMPTS=0", // With prompts disabled it would install what is missing.
			"CLOUDSDK_CORE_DISABLE_USAGE_REPORTING=1",
			"CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK=1")
		guard.Stdout, guard.Stderr = write, write
		err = guard.Start()
	}
	_ = write.Close() // The emulator has its own.
	if err != nil {
		_ = output.Close()
		return fmt.Errorf("starting the Firestore emulator: %w", err)
	}
	e.guard, e.alive, e.ended = guard, alive, make(chan struct{})
	started := make(chan error, 1)
	go follow(output, started, e.ended)
	ctx, cancel := context.WithTimeout(ctx, emulatorPatience)
	defer cancel()
	select {
	case err = <-started:
	case <-ctx.Done():
		err = fmt.Errorf("waiting for the Firestore emulator: %w", ctx.Err())
	}
	if err != nil {
		e.Stop()
	}
	return err
}

// Warm makes the emulator's first transaction, which takes it a second or two:
// longer than a service waits for its store at start.
func (e *FirestoreEmulator) Warm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, emulatorPatience)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+e.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // It has answered.
	database := "projects/warm-" + strings.ToLower(rand.Text())[:20] + "/databases/(default)"
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer owner")
	client := firestorepb.NewFirestoreClient(conn)
	tx, err := client.BeginTransaction(ctx, &firestorepb.BeginTransactionRequest{Database: database}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("the Firestore emulator's first transaction: %w", err)
	}
	_, err = client.Commit(ctx, &firestorepb.CommitRequest{
		Database:    database,
		Transaction: tx.GetTransaction(),
		Writes: []*firestorepb.Write{{Operation: &firestorepb.Write_Update{
			Update: &firestorepb.Document{Name: database + "/documents/warm/warm"},
		}}},
	})
	return err
}

// Stop kills the emulator with all its children and waits for its end. It does
// nothing to an emulator that FIRESTORE_EMULATOR_HOST names.
func (e *FirestoreEmulator) Stop() {
	if e.guard == nil {
		return
	}
	_ = e.alive.Close()
	_ = e.guard.Wait() // It has killed itself too.
	<-e.ended
	e.guard = nil
}

// follow reads the emulator's output to its end, so that the emulator never blocks
// on it. It reports once whether the emulator serves.
func follow(output io.ReadCloser, started chan<- error, ended chan<- struct{}) {
	defer close(ended)
	defer output.Close() //nolint:errcheck // Read only.
	var said strings.Builder
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if strings.Contains(lines.Text(), emulatorReady) {
			started <- nil
			_, _ = io.Copy(io.Discard, output)
			return
		}
		said.WriteString("\n\t" + lines.Text())
	}
	if strings.Contains(said.String(), emulatorNoJava) {
		started <- fmt.Errorf("%w:%s", ErrNoEmulator, said.String())
		return
	}
	started <- fmt.Errorf("the Firestore emulator ended before it served:%s", said.String())
}

// findEmulator returns the gcloud that starts the emulator. It also checks that the
// emulator is in the SDK's folder: gcloud would use the network to find out that it
// is not installed.
func findEmulator() (gcloud string, err error) {
	if gcloud, err = exec.LookPath("gcloud"); err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoEmulator, err)
	}
	if _, err = exec.LookPath("java"); err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoEmulator, err)
	}
	target, err := filepath.EvalSymlinks(gcloud)
	if err != nil {
		return "", fmt.Errorf("finding the Firestore emulator: %w", err)
	}
	components := filepath.Join(filepath.Dir(target), "..", "platform")
	if !exists(components) {
		return gcloud, nil // Installed in another way, which gcloud knows.
	}
	if emulator := filepath.Join(components, "cloud-firestore-emulator"); !exists(emulator) {
		return "", fmt.Errorf("%w: there is no %s", ErrNoEmulator, emulator)
	}
	return gcloud, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// freeAddress returns a loopback address that was free a moment ago.
func freeAddress(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("finding a free port: %w", err)
	}
	defer l.Close() //nolint:errcheck // Nothing was sent.
	return l.Addr().String(), nil
}
