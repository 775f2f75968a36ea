package standin

import (
	"embed"
	"io/fs"
	"net/http"
)

//go:embed chatkit
var chatKitFiles embed.FS

// ChatKit serves a stand-in for ChatKit's script, chatkit.js, and the frame that
// the script opens. Mount it under any prefix, with [http.StripPrefix]. On a server
// of its own it has another origin than the page, as the real one has. It keeps hosted
// conversations in the browser. The top of the script says how a test controls it.
func ChatKit() http.Handler {
	dir, err := fs.Sub(chatKitFiles, "chatkit")
	if err != nil {
		panic(err) // The name is a constant and valid.
	}
	files := http.FileServerFS(dir)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-cache") // Another build of the demo may have other files.
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; base-uri 'none'; form-action 'none'")
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
		h.Set("X-Content-Type-Options", "nosniff")
		files.ServeHTTP(w, r)
	})
}
