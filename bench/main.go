//go:build linux

// Bench measures the built service as a process from outside, each figure
// beside a yardstick of the same run: machines differ, ratios hold. It ends with
// status 1 if a target is missed. With -soak it runs mixed traffic with faults
// instead, and ends with status 1 if something has piled up.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
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
	only := flag.String("run", "", "measure only the groups that this regular expression matches: start, trips, rate, memory")
	soaking := flag.Duration("soak", 0, "run mixed traffic with faults for so long instead")
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
	dir                 string // For binaries and logs.
	binary, yard, hello string
	near                outside
	visitors            uint32 // That have been given an address of their own.
	rows                []row
}

// row is one line of the table.
type row struct {
	what, docent, yardstick string
	ratio                   float64
	wanted                  string // The target, if there is one.
	met                     bool
}

var errMissed = errors.New("a target was missed")

func run(ctx context.Context, only string, soaking time.Duration) (err error) {
	wanted, err := regexp.Compile(only)
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
	upstream, err := b.yardstick(ctx, oneCore)
	if err != nil {
		return err
	}
	defer upstream.stop()
	emulator, err := warmEmulator(ctx)
	if err != nil {
		return err
	}
	defer emulator.Stop()
	manages, err := standin.NewSecretManager()
	if err != nil {
		return err
	}
	defer manages.Close()
	for name, value := range secrets {
		manages.Add(project+"/"+name, value)
	}
	b.near = outside{store: emulator.Address(), secrets: manages.Address(), openAI: upstream.address, scheme: "http"}
	for _, group := range []struct {
		name    string
		measure func(context.Context) error
	}{{"start", b.coldStart}, {"trips", b.roundTrips}, {"rate", b.rates}, {"memory", b.memory}} {
		if !wanted.MatchString(group.name) {
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
	fmt.Fprintln(w, "what\tDocent\tyardstick\tratio\twanted\t")
	missed := false
	for _, r := range b.rows {
		verdict := ""
		if r.wanted != "" {
			verdict = "ok"
			if !r.met {
				verdict, missed = "FAIL", true
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.2f\t%s\t%s\n", r.what, r.docent, r.yardstick, r.ratio, r.wanted, verdict)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("printing the table: %w", err)
	}
	if missed {
		return errMissed
	}
	return nil
}

func (b *bench) add(r row) { b.rows = append(b.rows, r) }

// atMost and atLeast set a row's target for its ratio.
func (r row) atMost(limit float64) row {
	r.wanted, r.met = fmt.Sprintf("≤ %.2f", limit), r.ratio <= limit
	return r
}

func (r row) atLeast(limit float64) row {
	r.wanted, r.met = fmt.Sprintf("≥ %.2f", limit), r.ratio >= limit
	return r
}

// median does not mind that somebody else used the machine for a round or two.
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

// environment is the service's as it is deployed, with an upstream of ours and no
// ceiling in the way.
func (b *bench) environment(address string, more ...string) []string {
	return append([]string{
		"PORT=" + address, "ALLOWED_ORIGINS=" + origin, "TRUSTED_PROXIES=127.0.0.0/8",
		"OPENAI_API_KEY=" + secrets["key"], "CHATKIT_WORKFLOW_ID=" + secrets["workflow"], "IDENTITY_KEY=" + secrets["identity"],
		"GOOGLE_CLOUD_PROJECT=" + project, "LOG_FORMAT=json", "LOG_LEVEL=info", "RATE_LIMIT_INSTANCE_PER_MINUTE=1000000",
	}, more...)
}

// firestore and manager have the service use them, at an address that may be a
// delaying proxy's.
func firestore(address string) []string { return []string{"FIRESTORE_EMULATOR_HOST=" + address} }

func manager(address string) []string {
	return []string{
		"SECRET_MANAGER_EMULATOR_HOST=" + address,
		"OPENAI_API_KEY=sm://key", "CHATKIT_WORKFLOW_ID=sm://workflow", "IDENTITY_KEY=sm://identity#1",
	}
}

// warmEmulator starts a Firestore emulator and makes its first transaction,
// which takes it a second or two.
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

func mib(v float64) string { return fmt.Sprintf("%.1f MiB", v) }

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

func join(parts ...[]string) []string { return slices.Concat(parts...) }
