package api

import (
	"net/http"
	"net/url"
	"time"
)

type operatorList struct {
	Operators []Operator `json:"operators"`
}

type operatorBody struct {
	Name     string `json:"name"`
	Role     Role   `json:"role"`
	Selector string `json:"selector"`
	TTL      string `json:"ttl"`
}

type operatorPatch struct {
	Role     *Role   `json:"role"`
	Selector *string `json:"selector"`
	Disabled *bool   `json:"disabled"`
}

type tokenBody struct {
	TTL      string `json:"ttl"`
	Selector string `json:"selector"`
}

type madeOperator struct {
	Operator Operator `json:"operator"`
	mintedToken
}

type signInLink struct {
	Link    string `json:"link"`
	Expires int64  `json:"expires"`
}

func (a *API) getOperators(*call) (*reply, error) { return ok(operatorList{a.listOperators()}), nil }

func (a *API) postOperator(c *call) (*reply, error) {
	var b operatorBody
	if err := c.body(&b); err != nil {
		return nil, err
	}
	c.audit.Target, c.audit.Detail = b.Name, "role "+string(b.Role)
	ttl, err := a.operatorTTL(b.TTL)
	if err != nil {
		return nil, err
	}
	op, err := a.addOperator(c.Context(), Operator{Name: b.Name, Role: b.Role, Selector: b.Selector})
	if err != nil {
		return nil, err
	}
	token, expires, err := a.MintToken(c.Context(), op.Name, "", ttl)
	if err != nil {
		return nil, err
	}
	return &reply{
		status: http.StatusCreated, header: http.Header{"Location": {root + "/operators/" + url.PathEscape(op.Name)}},
		body: madeOperator{op, mintedToken{token, expires.UnixMilli()}},
	}, nil
}

// operatorTTL checks before anything is made.
func (a *API) operatorTTL(s string) (time.Duration, error) {
	if s == "" {
		return a.opts.TokenTTL, nil
	}
	ttl, err := duration("ttl", s)
	if err == nil && (ttl < time.Second || ttl > a.opts.MaxTokenTTL) {
		err = &Invalid{Code: "invalid_ttl", Path: "ttl", Detail: "ttl " + s + ": want 1s to " + a.opts.MaxTokenTTL.String()}
	}
	return ttl, err
}

func (a *API) patchOperator(c *call) (*reply, error) {
	var p operatorPatch
	if err := c.body(&p); err != nil {
		return nil, err
	}
	op, err := a.changeOperator(c.Context(), c.PathValue("name"), func(op *Operator) {
		if p.Role != nil {
			op.Role = *p.Role
		}
		if p.Selector != nil {
			op.Selector = *p.Selector
		}
		if p.Disabled != nil {
			op.Disabled = *p.Disabled
		}
	})
	if err != nil {
		return nil, err
	}
	return ok(op), nil
}

func (a *API) deleteOperator(c *call) (*reply, error) {
	if err := a.removeOperator(c.Context(), c.PathValue("name")); err != nil {
		return nil, err
	}
	return &reply{status: http.StatusNoContent}, nil
}

func (a *API) postOperatorToken(c *call) (*reply, error) {
	var b tokenBody
	if err := c.optionalBody(&b); err != nil {
		return nil, err
	}
	ttl, err := a.operatorTTL(b.TTL)
	if err != nil {
		return nil, err
	}
	token, expires, err := a.MintToken(c.Context(), c.PathValue("name"), b.Selector, ttl)
	if err != nil {
		return nil, err
	}
	return &reply{status: http.StatusCreated, body: mintedToken{token, expires.UnixMilli()}}, nil
}

func (a *API) deleteOperatorTokens(c *call) (*reply, error) {
	if _, err := a.revokeOperator(c.Context(), c.PathValue("name")); err != nil {
		return nil, err
	}
	return &reply{status: http.StatusNoContent}, nil
}

func (a *API) postOperatorLink(c *call) (*reply, error) {
	base := a.opts.External
	if base == "" {
		base = "https://" + c.Host
		if a.opts.Plaintext {
			base = "http://" + c.Host
		}
	}
	link, expires, err := a.SignInLink(c.Context(), base, c.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return &reply{status: http.StatusCreated, body: signInLink{link, expires.UnixMilli()}}, nil
}
