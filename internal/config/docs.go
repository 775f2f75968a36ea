package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"docent/internal/origin"
)

// Hosted reports whether a workflow that OpenAI hosts is configured.
func (c *Config) Hosted() bool { return !c.WorkflowID.IsZero() }

// Docs reports whether Docent is configured to answer by itself, from the docs.
func (c *Config) Docs() bool { return c.DocsIndex != "" || !c.VectorStoreID.IsZero() }

// Limit is a number of things, of which 0 means none at all.
type Limit int

// Unlimited is a [Limit] that is none.
const Unlimited Limit = -1

// UnmarshalText implements [encoding.TextUnmarshaler].
func (l *Limit) UnmarshalText(text []byte) error {
	if string(text) == "unlimited" {
		*l = Unlimited
		return nil
	}
	n, err := strconv.ParseUint(string(text), 10, 32)
	if err != nil || n > maxLimit {
		return errors.New("not a limit")
	}
	*l = Limit(n)
	return nil
}

// DomainKeys are the keys of OpenAI's domain allow-list by host: a name in lower
// case, without a port. They are public: they stand in the page.
type DomainKeys map[string]string

var (
	domainHost = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)*$`)
	domainKey  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,200}$`)
)

// UnmarshalText implements [encoding.TextUnmarshaler]. Its error joins one for each
// entry that is not right.
func (k *DomainKeys) UnmarshalText(text []byte) error {
	keys := DomainKeys{}
	var faults []error
	for i, entry := range strings.Split(string(text), ",") {
		host, key, _ := strings.Cut(strings.TrimSpace(entry), "=")
		host = strings.ToLower(host)
		_, twice := keys[host]
		switch {
		case !domainHost.MatchString(host) || !domainKey.MatchString(key):
			faults = append(faults, fmt.Errorf("entry %d must be a host and its key, such as docs.example.com=domain_pk_123", i+1))
		case twice:
			faults = append(faults, fmt.Errorf("entry %d names a host that has a key already", i+1))
		}
		keys[host] = key
	}
	*k = keys
	return errors.Join(faults...)
}

// MissingDomainKeys returns the hosts of allowed origins for which ChatKit wants a
// key and CHATKIT_DOMAIN_KEYS has none. Hosts that only a pattern allows are not
// among them: nobody knows them all.
func (c *Config) MissingDomainKeys() []string {
	if !c.Docs() || c.PublicURL != "" && !origin.Verified(c.PublicURL) {
		return nil
	}
	var missing []string
	for _, o := range c.AllowedOrigins.Exact() {
		if u, err := url.Parse(o); err == nil && origin.Verified(o) && c.DomainKeys[u.Hostname()] == "" {
			missing = append(missing, u.Hostname())
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing) // A host may be listed with http and https.
}

// MissingKeys says what is wrong with CHATKIT_DOMAIN_KEYS where hosts are missing.
func MissingKeys(hosts []string) string {
	return "must have a key for " + strings.Join(hosts, ", ") +
		": add each host to the allow-list at https://platform.openai.com/settings/organization/security/domain-allowlist"
}

// MaxInstructions is how long the site's own instructions may be, in characters.
const MaxInstructions = 8000

// InstructionsFile returns the name of the file that has the site's own instructions, if
// a file has them.
func (c *Config) InstructionsFile() (name string, isFile bool) {
	text, _ := c.Instructions.Literal()
	return strings.CutPrefix(text, "@")
}

// instructionsOK reports whether instructions that stand in the variable itself are
// short enough.
func (c *Config) instructionsOK() bool {
	_, isFile := c.InstructionsFile()
	text, _ := c.Instructions.Literal()
	return isFile || utf8.RuneCountInString(text) <= MaxInstructions
}

var (
	modelName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}$`)
	effort    = regexp.MustCompile(`^[a-z]{1,20}$`)
)

// isIndex reports whether s is a path, or a URL that an index may be loaded from.
func isIndex(s string) bool {
	if !strings.Contains(s, "://") {
		return true
	}
	u, err := url.Parse(s)
	return err == nil && u.User == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()))
}

// isPublicURL reports whether s is a URL that visitors' browsers may send messages
// to.
func isPublicURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && isBaseURL(s) && u.Path == "" && (u.Scheme == "https" || isLoopback(u.Hostname()))
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}
