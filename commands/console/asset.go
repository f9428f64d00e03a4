package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	versionChars = 16 // of the tree's hash, in every asset's address
	etagChars    = 32
)

// contentTypes are written down here, because the system's own table differs from machine to machine and a wrong one is
// refused by the browser (nosniff).
var contentTypes = map[string]string{
	".html":        "text/html; charset=utf-8",
	".js":          "text/javascript; charset=utf-8",
	".css":         "text/css; charset=utf-8",
	".svg":         "image/svg+xml",
	".webmanifest": "application/manifest+json",
	"":             "text/plain; charset=utf-8", // LICENSE, VERSIONS
}

// assets is the embedded tree, ready to serve.
type assets struct {
	version string
	page    *asset // index.html, with the addresses of this version filled in
	files   map[string]*asset
}

// asset is one file in memory, plain and compressed.
type asset struct {
	contentType string
	etag        string
	plain       []byte
	zipped      func() []byte // made when it is asked for
}

func load(tree fs.FS) (*assets, error) {
	contents := map[string][]byte{}
	whole := sha256.New()
	// WalkDir goes in lexical order, so the hash is the same for the same files.
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(tree, name)
		if err != nil {
			return fmt.Errorf("read console file: %w", err)
		}
		contents[name] = data
		fmt.Fprintf(whole, "%s %d\n", name, len(data))
		whole.Write(data)
		return nil
	})
	if err != nil {
		return nil, err
	}
	a := &assets{version: hex.EncodeToString(whole.Sum(nil))[:versionChars], files: map[string]*asset{}}
	for name, data := range contents {
		if a.files[name], err = newAsset(name, data); err != nil {
			return nil, err
		}
	}
	a.page, err = newAsset("index.html", a.fillIn(contents["index.html"]))
	return a, err
}

// fillIn puts the version's base address and one preload per module into the page, so that the browser fetches all
// modules at once instead of finding them import by import.
func (a *assets) fillIn(page []byte) []byte {
	base := root + versionsPath + a.version
	var modules []string
	for name := range a.files {
		if path.Ext(name) == ".js" {
			modules = append(modules, fmt.Sprintf(`<link rel="modulepreload" href="%s/%s">`, base, name))
		}
	}
	slices.Sort(modules)
	return []byte(strings.NewReplacer(
		"<!-- modules -->", strings.Join(modules, "\n  "),
		"{base}", base,
	).Replace(string(page)))
}

func newAsset(name string, data []byte) (*asset, error) {
	contentType, known := contentTypes[path.Ext(name)]
	if !known {
		return nil, fmt.Errorf("console file %s: no content type for its extension", name)
	}
	sum := sha256.Sum256(data)
	return &asset{
		contentType: contentType,
		etag:        hex.EncodeToString(sum[:])[:etagChars],
		plain:       data,
		zipped:      sync.OnceValue(func() []byte { return zip(data) }),
	}, nil
}

// zip compresses; what cannot be stays as it is, and is served plain.
func zip(data []byte) []byte {
	var zipped bytes.Buffer
	z, err := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	if err != nil {
		return data
	}
	if _, err := z.Write(data); err != nil || z.Close() != nil {
		return data
	}
	return zipped.Bytes()
}

// serve writes the file, compressed where the browser takes it and it is smaller, or 304 if the browser has it.
func (a *asset) serve(w http.ResponseWriter, r *http.Request, caching string) {
	h, body, etag := w.Header(), a.plain, `"`+a.etag+`"`
	if zipped := a.zipped(); len(zipped) < len(a.plain) {
		h.Set("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header.Get("Accept-Encoding")) {
			body, etag = zipped, `"`+a.etag+`-gz"`
			h.Set("Content-Encoding", "gzip")
		}
	}
	h.Set("Content-Type", a.contentType)
	h.Set("Cache-Control", caching)
	h.Set("ETag", etag)
	if matches(r.Header.Get("If-None-Match"), etag) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		w.Write(body)
	}
}

func acceptsGzip(header string) bool {
	for offer := range strings.SplitSeq(header, ",") {
		coding, weight, _ := strings.Cut(strings.TrimSpace(offer), ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			return !strings.HasPrefix(strings.ReplaceAll(weight, " ", ""), "q=0") || strings.Contains(weight, "q=0.")
		}
	}
	return false
}

func matches(header, etag string) bool {
	for candidate := range strings.SplitSeq(header, ",") {
		candidate = strings.TrimPrefix(strings.TrimSpace(candidate), "W/")
		if candidate == etag || candidate == "*" {
			return true
		}
	}
	return false
}
