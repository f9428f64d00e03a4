package api

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"
)

//go:embed openapi.yaml
var openAPISource []byte

// openAPIWhole is the source as JSON. Reading so much YAML takes long, so it is read once, when somebody asks for it.
var openAPIWhole = sync.OnceValues(func() ([]byte, error) {
	var doc map[string]any
	if err := yaml.Unmarshal(openAPISource, &doc); err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	return json.Marshal(doc)
})

// openAPI is the OpenAPI document of this hub: the source without the calls of parts that it lacks.
func (a *API) openAPI() ([]byte, error) {
	whole, err := openAPIWhole()
	if err != nil {
		return nil, err
	}
	var doc map[string]any
	if err := json.Unmarshal(whole, &doc); err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	mounted := map[string]bool{}
	for _, e := range a.endpoints {
		mounted[strings.ToLower(e.method)+" "+root+e.path] = true
	}
	paths, _ := doc["paths"].(map[string]any)
	for path, item := range paths {
		methods, _ := item.(map[string]any)
		for method := range methods {
			if method != "parameters" && !mounted[method+" "+path] {
				delete(methods, method)
			}
		}
		if _, has := methods["parameters"]; len(methods) == 0 || has && len(methods) == 1 {
			delete(paths, path)
		}
	}
	out, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode openapi.json: %w", err)
	}
	return out, nil
}
