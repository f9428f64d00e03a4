package api

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/fairlead-hub/fairlead/internal/problem"
)

type hubKeyList struct {
	Keys []HubKey `json:"keys"`
}

type hubKeyBody struct {
	Kind string `json:"kind"`
}

func (a *API) getHubKeys(*call) (*reply, error) {
	return ok(hubKeyList{append(a.opts.DeviceKeys.List(), a.tokens.keys.List()...)}), nil
}

func (a *API) postHubKey(c *call) (*reply, error) {
	b := hubKeyBody{Kind: DeviceKeys}
	if err := c.optionalBody(&b); err != nil {
		return nil, err
	}
	c.audit.Detail = b.Kind
	var keys HubKeys
	switch b.Kind {
	case DeviceKeys:
		keys = a.opts.DeviceKeys
	case OperatorKeys:
		keys = a.tokens.keys
	default:
		return nil, &Invalid{Code: "invalid_kind", Path: "kind", Detail: fmt.Sprintf("kind %q is neither %s nor %s", b.Kind, DeviceKeys, OperatorKeys)}
	}
	made, err := keys.Rotate()
	if err != nil {
		return nil, err
	}
	c.audit.Target = made.KID
	return &reply{status: http.StatusCreated, body: made}, nil
}

func (a *API) deleteHubKey(c *call) (*reply, error) {
	kid := c.PathValue("kid")
	c.audit.Target = kid
	kind, err := DeviceKeys, a.opts.DeviceKeys.Remove(kid)
	if errors.Is(err, ErrHubKeyNotFound) {
		kind, err = OperatorKeys, a.tokens.keys.Remove(kid)
	}
	if err != nil {
		return nil, err
	}
	if err := a.dir.withdraw(c.Context(), kind, kid); err != nil {
		a.opts.Log.Error("other nodes not told of a removed key", "kid", kid, "err", err)
		return nil, problem.New(http.StatusServiceUnavailable, "unavailable",
			"the key is removed, but other nodes could not be told: they find out within "+keysEvery.String())
	}
	return &reply{status: http.StatusNoContent}, nil
}
