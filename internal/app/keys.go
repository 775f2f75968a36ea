package app

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"

	"docent/internal/config"
	"docent/internal/visitor"
)

// Keys are the secrets that every instance must share, each for one purpose.
type Keys struct {
	// Visitors sign who a browser is.
	Visitors visitor.Keys
	// Buckets names the documents in which addresses are counted.
	Buckets []byte
	// Threads names the documents in which a visitor's conversations are kept.
	Threads []byte
	// SafetyIDs names visitors to OpenAI.
	SafetyIDs []byte
}

// DeriveKeys returns the keys that follow from the identity key or, where that
// is empty, from the API key; the configuration has checked that this is safe.
// It fails where the identity key is too short.
//
// A changed label forgets every visitor, every conversation, or every count of the
// current minute.
func DeriveKeys(identityKey, apiKey string) (Keys, error) {
	identity := []byte(identityKey)
	if len(identity) == 0 {
		var err error
		if identity, err = subkey([]byte(apiKey), "identity key"); err != nil {
			return Keys{}, err
		}
	}
	if len(identity) < config.MinIdentityKey {
		return Keys{}, fmt.Errorf("IDENTITY_KEY has %d bytes and must have %d or more: store a longer one, as from `openssl rand -base64 32`", len(identity), config.MinIdentityKey)
	}
	tokens, err1 := subkey(identity, "tokens")
	undated, err2 := subkey(identity, "visitor IDs") // What the first cookies were signed for.
	buckets, err3 := subkey(identity, "bucket IDs")
	threads, err4 := subkey(identity, "thread owners")
	safetyIDs, err5 := subkey(identity, "safety identifiers")
	keys := Keys{Visitors: visitor.Keys{Tokens: tokens, Undated: undated}, Buckets: buckets, Threads: threads, SafetyIDs: safetyIDs}
	return keys, errors.Join(err1, err2, err3, err4, err5)
}

// subkey derives a key for one purpose from a secret, by HKDF with SHA-256.
func subkey(secret []byte, purpose string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "docent: "+purpose, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("deriving the key for %s: %w", purpose, err)
	}
	return key, nil
}
