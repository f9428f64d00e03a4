package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

func (a *API) getState(c *call) (*reply, error) {
	s, err := a.opts.Twin.State(c.Context(), c.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return stateReply(s), nil
}

func (a *API) patchDesired(c *call) (*reply, error) {
	version, err := ifMatch(c.Header.Get("If-Match"))
	if err != nil {
		return nil, err
	}
	var patch map[string]json.RawMessage
	if err := c.body(&patch); err != nil {
		return nil, err
	}
	if patch == nil {
		return nil, &Invalid{Code: "invalid_type", Detail: "the body is not an object"}
	}
	data, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("encode patch: %w", err)
	}
	c.audit.Detail = string(data)
	s, err := a.opts.Twin.PatchDesired(c.Context(), c.PathValue("id"), data, version)
	if err != nil {
		return nil, err
	}
	return stateReply(s), nil
}

// ifMatch reads the version in an If-Match header, with or without quotes; none and * are any.
func ifMatch(header string) (*uint64, error) {
	if header == "" || header == "*" {
		return nil, nil
	}
	version, err := strconv.ParseUint(strings.Trim(header, `"`), 10, 64)
	if err != nil {
		return nil, &Invalid{Code: "invalid_version", Path: "If-Match", Detail: fmt.Sprintf("If-Match %q is not a version; the state tells desired_version", header)}
	}
	return &version, nil
}

func stateReply(s TwinState) *reply {
	empty := json.RawMessage("{}")
	for _, doc := range []*json.RawMessage{&s.Desired, &s.Reported, &s.Difference} {
		if len(*doc) == 0 || string(*doc) == "null" {
			*doc = empty
		}
	}
	rep := ok(s)
	rep.header = http.Header{"Etag": {strconv.Quote(strconv.FormatUint(s.DesiredVersion, 10))}}
	return rep
}
