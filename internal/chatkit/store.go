package chatkit

import (
	"context"
	"errors"
)

// The errors of a [Store] that are not an outage.
var (
	// ErrNotFound is returned for a thread that is unknown, deleted, expired, or
	// another visitor's. Nobody can tell which.
	ErrNotFound = errors.New("thread not found")
	// ErrConflict is returned by Put when another write came first.
	ErrConflict = errors.New("thread was changed by another write")
)

// Store keeps the threads of visitors. Implementations MUST keep those of one
// visitor out of reach of all others. A visitor is named by an ID, which is a
// secret: a store that writes it anywhere hashes it first.
//
// A thread whose Updated is as old as the store keeps threads counts as gone at
// once. An error other than [ErrNotFound] and [ErrConflict] is an outage.
type Store interface {
	// Get returns a thread. Its items may be shared: nobody changes one.
	Get(ctx context.Context, visitor, id string) (Thread, error)
	// Put writes a thread and returns its new version. One of version 0 MUST be
	// new, any other MUST still be stored in that version: else nothing is written,
	// and the error is ErrConflict, or ErrNotFound where a stored thread is gone.
	//
	// One that has expired since it was read is written while it is still stored. If
	// the store's answer is lost, the error may be ErrConflict although the thread was
	// written.
	Put(ctx context.Context, visitor string, t Thread) (version int64, err error)
	// List returns a page of the visitor's threads without their items, ordered by
	// Updated, and whether there are more.
	List(ctx context.Context, visitor string, p Cursor) (threads []Thread, more bool, err error)
	// Delete removes a thread. For one that is not there, the error is ErrNotFound.
	Delete(ctx context.Context, visitor, id string) error
}

// maxID is the length of the longest thread ID.
const maxID = 64

// ValidID reports whether a thread can have this ID: 1 to 64 ASCII letters, digits,
// '_' and '-', of which '_' and '-' are not the first. Any such ID can be a part of
// a path. (Firestore reserves IDs that begin with "__".) For others a [Store]
// answers [ErrNotFound].
func ValidID(id string) bool {
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '_' || c == '-'):
		default:
			return false
		}
	}
	return id != "" && len(id) <= maxID
}

// Cursor is a place in a list, and how much of it is asked for.
type Cursor struct {
	// After is the ID of the last entry that the client has, or "" for the
	// beginning. After an ID that is unknown there is nothing.
	After string
	// Limit is the most entries of a page, at least 1.
	Limit int
	// Ascending begins with the oldest.
	Ascending bool
}
