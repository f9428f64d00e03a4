package console

import (
	"embed"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

const (
	root         = "/console/"
	versionsPath = "v/"

	keepForEver = "public, max-age=31536000, immutable"
	revalidate  = "no-cache"
)

//go:embed static
var static embed.FS

// Handler serves the console under /console/. It needs no session itself: the files are the same for everybody, and
// what they show comes from the API, which asks who is there.
func Handler() http.Handler {
	tree, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // the directory is embedded above
	}
	assets, err := load(tree)
	if err != nil {
		panic(err) // reading embedded files cannot fail
	}
	return &handler{assets: assets}
}

type handler struct {
	assets *assets
}

// ServeHTTP answers a file of the current version, the page for each of its routes, or 404.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the console is read with GET", http.StatusMethodNotAllowed)
		return
	}
	name, inside := strings.CutPrefix(r.URL.Path, root)
	switch {
	case !inside && r.URL.Path+"/" == root:
		http.Redirect(w, r, root, http.StatusPermanentRedirect)
	case !inside:
		http.NotFound(w, r)
	case strings.HasPrefix(name, versionsPath):
		h.serveVersioned(w, r, strings.TrimPrefix(name, versionsPath))
	case isRoute(name):
		h.assets.page.serve(w, r, revalidate)
	default:
		http.NotFound(w, r)
	}
}

// serveVersioned answers <hash>/<file>. Another hash is another build's file, which this binary does not have.
func (h *handler) serveVersioned(w http.ResponseWriter, r *http.Request, name string) {
	version, file, _ := strings.Cut(name, "/")
	asset, known := h.assets.files[file]
	if version != h.assets.version || !known {
		http.NotFound(w, r)
		return
	}
	asset.serve(w, r, keepForEver)
}

// isRoute tells a route of the application from a file: ids never hold a dot, file names always do.
func isRoute(name string) bool {
	return !strings.Contains(path.Base(name), ".") || name == ""
}
