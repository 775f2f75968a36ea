//go:build unix

// Package testfirestore gives tests a Firestore: one emulator for all the tests
// of a package, one project for each.
package testfirestore

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"docent/internal/standin"
)

// shared starts when the first test asks for it and ends with the process.
var shared = sync.OnceValues(func() (*standin.FirestoreEmulator, error) {
	e, err := standin.OpenFirestoreEmulator(context.Background())
	if err != nil {
		return nil, err
	}
	return e, e.Warm(context.Background())
})

// Address returns the host and port of the emulator that the package's tests
// share. If none is installed it skips the test, or fails it if CI=true.
func Address(tb testing.TB) string {
	tb.Helper()
	e, err := shared()
	check(tb, err)
	return e.Address()
}

// Own starts an emulator for one test, which may stop it and start it again.
func Own(tb testing.TB) *standin.FirestoreEmulator {
	tb.Helper()
	e, err := standin.StartFirestoreEmulator(tb.Context())
	check(tb, err)
	tb.Cleanup(e.Stop)
	check(tb, e.Warm(tb.Context()))
	return e
}

// Project returns the ID of a project that nothing else uses, in this run or
// another one on the same emulator.
func Project() string {
	return "test-" + strings.ToLower(rand.Text())[:20]
}

func check(tb testing.TB, err error) {
	tb.Helper()
	switch {
	case err == nil:
	case errors.Is(err, standin.ErrNoEmulator) && os.Getenv("CI") != "true":
		tb.Skip(err)
	default:
		tb.Fatal(err)
	}
}
