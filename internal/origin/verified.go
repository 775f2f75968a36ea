package origin

import (
	"net/netip"
	"net/url"
	"strings"
)

// Verified reports whether ChatKit, on a page of this origin or with a server there,
// asks OpenAI if the page's host is on the domain allow-list. It does not ask about
// local hosts and unusual ports, where a site is developed.
func Verified(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil {
		return false
	}
	host := strings.ToLower(u.Hostname())
	if host == "localhost" || host == "0.0.0.0" || host == "::1" || strings.HasSuffix(host, ".local") {
		return false
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is4() && addr.IsLoopback() {
		return false
	}
	port := u.Port()
	return port == "" || u.Scheme == "http" && port == "80" || u.Scheme == "https" && port == "443"
}
