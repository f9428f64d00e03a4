package commands

import (
	"bytes"
	"container/list"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	faults "github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

// schemas are the compiled JSON Schemas of announced commands, the most used of them. Devices of one firmware share
// theirs. A schema that cannot be used, be it wrong, too costly or pointing elsewhere, checks nothing: the device still
// refuses what it cannot do, and a faulty announcement must not lock its operator out.
type schemas struct {
	log *slog.Logger

	// guarded by mu
	mu   sync.Mutex
	have map[[sha256.Size]byte]*list.Element
	used *list.List // of *compiled, the last used first
}

type compiled struct {
	sum    [sha256.Size]byte
	schema *jsonschema.Schema
	err    error // why it cannot be used
}

func newSchemas(log *slog.Logger) *schemas {
	return &schemas{log: log, have: make(map[[sha256.Size]byte]*list.Element), used: list.New()}
}

// check reports the first fault of params, with its place in the request.
func (s *schemas) check(schema, params json.RawMessage) error {
	compiled, err := s.compiled(schema)
	if compiled == nil || err != nil {
		return nil //nolint:nilerr // who announced it was told
	}
	if len(params) == 0 {
		params = json.RawMessage("{}") // no parameters
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(params))
	if err != nil {
		return invalid("/params", err.Error())
	}
	err = compiled.Validate(value)
	var fault *jsonschema.ValidationError
	if !errors.As(err, &fault) {
		return err
	}
	return describe(fault)
}

// describe tells the deepest first cause.
func describe(fault *jsonschema.ValidationError) error {
	at, text := deepest(fault)
	return &InvalidError{Kind: ErrInvalidParams, Path: "/params" + at, Message: text}
}

// deepest returns the place of the deepest first cause, a JSON pointer, and a sentence.
func deepest(fault *jsonschema.ValidationError) (at, text string) {
	for len(fault.Causes) > 0 {
		fault = fault.Causes[0]
	}
	where := fault.InstanceLocation
	switch k := fault.ErrorKind.(type) {
	case *faults.Required:
		where = append(where[:len(where):len(where)], k.Missing[:1]...)
	case *faults.AdditionalProperties:
		where = append(where[:len(where):len(where)], k.Properties[:1]...)
	}
	for _, step := range where {
		at += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(step)
	}
	text = "does not fit"
	if unit := fault.BasicOutput(); unit.Error != nil {
		text = unit.Error.String()
	}
	return at, text
}

// CheckSpecs reports the first schema of what a device announces that cannot be used. Its commands are taken all the same,
// with parameters unchecked.
func (r *Router) CheckSpecs(specs []wire.CommandSpec) error {
	for i, c := range specs {
		if _, err := r.schemas.compiled(c.Params); err != nil {
			return fmt.Errorf("commands[%d].params: %w; what operators send goes unchecked", i, err)
		}
	}
	return nil
}

// compiled returns the schema ready to use, nil if there is none, or why it cannot be used.
func (s *schemas) compiled(schema json.RawMessage) (*jsonschema.Schema, error) {
	if len(bytes.TrimSpace(schema)) == 0 {
		return nil, nil
	}
	sum := sha256.Sum256(schema)
	s.mu.Lock()
	if e := s.have[sum]; e != nil {
		s.used.MoveToFront(e)
		s.mu.Unlock()
		c := e.Value.(*compiled)
		return c.schema, c.err
	}
	s.mu.Unlock()

	ready, err := compile(schema)
	if err != nil {
		s.log.Warn("announced schema cannot be used; parameters go unchecked", "err", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.have[sum] == nil {
		s.have[sum] = s.used.PushFront(&compiled{sum, ready, err})
		if s.used.Len() > maxSchemas {
			delete(s.have, s.used.Remove(s.used.Back()).(*compiled).sum)
		}
	}
	return ready, err
}

const schemaURL = "fairlead:params"

func compile(schema json.RawMessage) (*jsonschema.Schema, error) {
	if len(schema) > maxSchemaBytes {
		return nil, fmt.Errorf("schema of %d bytes; at most %d", len(schema), maxSchemaBytes)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	if err := affordable(doc); err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(nowhere{})
	if err := c.AddResource(schemaURL, doc); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	ready, err := c.Compile(schemaURL)
	var wrong *jsonschema.SchemaValidationError
	var fault *jsonschema.ValidationError
	switch {
	case errors.As(err, &wrong) && errors.As(wrong.Err, &fault):
		at, text := deepest(fault)
		return nil, fmt.Errorf("schema: %s: %s", at, text)
	case err != nil:
		return nil, fmt.Errorf("schema: %w", err)
	}
	return ready, nil
}

// nowhere loads nothing: a device must not make the hub open files or addresses.
type nowhere struct{}

// Load refuses.
func (nowhere) Load(url string) (any, error) {
	return nil, fmt.Errorf("%q: references to elsewhere are not followed", url)
}

// affordable refuses schemas whose references could make the check of a small value take for ever: those that lead in
// a circle, and those that multiply. Without references the work is at most schema times value.
func affordable(doc any) error {
	w := walk{root: doc, cost: make(map[string]int), open: make(map[string]bool)}
	cost, err := w.visit(doc, true)
	if err == nil && cost > maxSchemaCost {
		err = errTooCostly
	}
	return err
}

var errTooCostly = errors.New("schema: its references multiply beyond measure")

type walk struct {
	root any
	cost map[string]int
	open map[string]bool
}

func (w *walk) visit(v any, top bool) (int, error) {
	cost := 1
	var children []any
	switch v := v.(type) {
	case []any:
		children = v
	case map[string]any:
		for key, child := range v {
			switch key {
			case "$dynamicRef", "$recursiveRef", "$anchor", "$dynamicAnchor":
				return 0, fmt.Errorf("schema: %s is not supported", key)
			case "$id", "id":
				if _, text := child.(string); text && !top {
					return 0, fmt.Errorf("schema: %s below the top is not supported", key)
				}
			case "$ref":
				ref, _ := child.(string)
				n, err := w.follow(ref)
				if err != nil {
					return 0, err
				}
				cost += n
				continue
			}
			children = append(children, child)
		}
	}
	for _, child := range children {
		n, err := w.visit(child, false)
		if err != nil {
			return 0, err
		}
		if cost += n; cost > maxSchemaCost {
			return 0, errTooCostly
		}
	}
	return cost, nil
}

func (w *walk) follow(ref string) (int, error) {
	if n, ok := w.cost[ref]; ok {
		return n, nil
	}
	if w.open[ref] {
		return 0, fmt.Errorf("schema: $ref %q leads in a circle", ref)
	}
	target, ok := resolve(w.root, ref)
	if !ok {
		return 0, fmt.Errorf("schema: $ref %q leads nowhere inside the schema", ref)
	}
	w.open[ref] = true
	n, err := w.visit(target, true)
	w.open[ref] = false
	w.cost[ref] = n
	return n, err
}

// resolve follows a JSON pointer in a fragment [RFC6901 6].
func resolve(doc any, ref string) (any, bool) {
	if ref == "#" {
		return doc, true
	}
	if !strings.HasPrefix(ref, "#/") || strings.Contains(ref, "%") {
		return nil, false
	}
	for step := range strings.SplitSeq(ref[2:], "/") {
		m, ok := doc.(map[string]any)
		if !ok {
			return nil, false
		}
		if doc, ok = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(step)]; !ok {
			return nil, false
		}
	}
	return doc, true
}
