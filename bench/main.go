//go:build linux

// Bench measures the built service as a process from outside, each figure next
// to a yardstick of the same run: machines differ, ratios hold. It exits with
// status 1 if a target is missed. With -soak it sends mixed traffic with faults
// instead, and exits with status 1 if goroutines, files or memory pile up.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"docent/internal/standin"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	only := flag.String("run", "", "measure only the groups that this regular expression matches: start, rate, memory")
	soaking := flag.Duration("soak", 0, "send mixed traffic with faults for this long instead")
	flag.Parse()
	err := run(ctx, *only, *soaking)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is what the measurements share.
type bench struct {
	dir                 string // For binaries and recorded answers.
	binary, yard, hello string
	near                outside
	visitors            uint32 // How many visitor addresses are in use.
	rows                []row
}

// row is one line of the table.
type row struct {
	what, docent, yardstick string
	ratio                   float64
	target                  string
	met                     bool
}

var errMissed = errors.New("a target was missed")

func run(ctx context.Context, only string, soaking time.Duration) (err error) {
	groups, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	b := &bench{}
	if b.dir, err = os.MkdirTemp("", "docent-bench-"); err != nil {
		return fmt.Errorf("temporary directory: %w", err)
	}
	defer os.RemoveAll(b.dir) //nolint:errcheck // The system's own cleaner would.
	if b.binary, err = build(ctx, b.dir, "docent/cmd/docent"); err != nil {
		return err
	}
	if soaking > 0 {
		return b.soak(ctx, soaking)
	}
	if b.yard, err = build(ctx, b.dir, "docent/bench/yardstick"); err != nil {
		return err
	}
	if b.hello, err = build(ctx, b.dir, "docent/bench/hello"); err != nil {
		return err
	}
	emulator, err := warmEmulator(ctx)
	if err != nil {
		return err
	}
	defer emulator.Stop()
	manager, err := secretManager()
	if err != nil {
		return err
	}
	defer manager.Close()
	upstream := httptest.NewServer(http.HandlerFunc(openAI))
	defer upstream.Close()
	b.near = outside{store: emulator.Address(), secrets: manager.Address(), openAI: upstream.Listener.Addr().String()}
	for _, group := range []struct {
		name    string
		measure func(context.Context) error
	}{{"start", b.start}, {"rate", b.rates}, {"memory", b.memory}} {
		if !groups.MatchString(group.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring: %s\n", group.name)
		if err := group.measure(ctx); err != nil {
			return fmt.Errorf("%s: %w", group.name, err)
		}
	}
	return b.report()
}

// report prints the table.
func (b *bench) report() error {
	fmt.Printf("%s %s/%s, %d CPUs\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\tDocent\tyardstick\tratio\ttarget\t")
	var missed error
	for _, r := range b.rows {
		verdict := "ok"
		if !r.met {
			verdict, missed = "FAIL", errMissed
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.2f\t%s\t%s\n", r.what, r.docent, r.yardstick, r.ratio, r.target, verdict)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("printing the table: %w", err)
	}
	return missed
}

func (b *bench) add(r row) { b.rows = append(b.rows, r) }

// median ignores a few rounds in which something else used the machine.
func median[T float64 | time.Duration](values []T) T {
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

const project = "bench"

var secrets = map[string]string{
	"key":      "sk-bench-not-a-real-key",
	"workflow": "wf_bench",
	"identity": "identity-key-of-the-benchmark-32-bytes-or-more",
}

// oneCore is what Cloud Run gives an instance.
var oneCore = []string{"GOMAXPROCS=1"}

// outside is where the service finds its dependencies.
type outside struct{ store, secrets, openAI string }

// upstream, manager and firestore configure one dependency each.
func (o outside) upstream() []string { return []string{"OPENAI_BASE_URL=http://" + o.openAI + "/v1"} }

func (o outside) manager() []string {
	return []string{
		"SECRET_MANAGER_EMULATOR_HOST=" + o.secrets,
		"OPENAI_API_KEY=sm://key", "CHATKIT_WORKFLOW_ID=sm://workflow", "IDENTITY_KEY=sm://identity#1",
	}
}

func (o outside) firestore() []string { return []string{"FIRESTORE_EMULATOR_HOST=" + o.store} }

func (o outside) all() []string { return slices.Concat(o.upstream(), o.manager(), o.firestore()) }

// warmEmulator starts a Firestore emulator and makes its first transaction,
// which takes a second or two.
func warmEmulator(ctx context.Context) (*standin.FirestoreEmulator, error) {
	e, err := standin.StartFirestoreEmulator(ctx)
	if err != nil {
		return nil, err
	}
	if err := e.Warm(ctx); err != nil {
		e.Stop()
		return nil, err
	}
	return e, nil
}

// secretManager starts a stand-in that has the secrets.
func secretManager() (*standin.SecretManager, error) {
	m, err := standin.NewSecretManager()
	if err != nil {
		return nil, err
	}
	for name, value := range secrets {
		m.Add(project+"/"+name, value)
	}
	return m, nil
}

// openAI answers as OpenAI does, with the least work. To Docent the session
// never expires.
func openAI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintln(w, `{"id":"cksess_bench","object":"chatkit.session","client_secret":"ek_bench_0123456789abcdef0123456789abcdef",`+
		`"expires_at":4000000000,"workflow":{"id":"wf_bench"},"user":"bench","max_requests_per_1_minute":10,"status":"active"}`)
}
