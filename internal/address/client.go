package address

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/go-chi/chi/v5/middleware"
)

// Client returns a middleware that finds the client's address, which [Of] then
// returns. It is the rightmost entry of X-Forwarded-For that is not a trusted
// proxy's: everything to the left of that entry may be forged. Without trusted
// proxies it is the peer's own address.
func (p Proxies) Client() func(http.Handler) http.Handler {
	if len(p) == 0 {
		return middleware.ClientIPFromRemoteAddr
	}
	var trusted []string
	for _, network := range p {
		trusted = append(trusted, network.String())
	}
	return middleware.ClientIPFromXFF(trusted...)
}

// Of returns the address that [Proxies.Client] has found, or the zero Addr where
// it cannot be told from the headers of the trusted proxies.
func Of(ctx context.Context) netip.Addr { return middleware.GetClientIPAddr(ctx) }
