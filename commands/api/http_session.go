package api

import (
	"errors"
	"net/http"
	"time"
)

// signInBody holds an operator token or the secret of a sign-in link.
type signInBody struct {
	Token  string `json:"token"`
	Secret string `json:"secret"`
}

// sessionShape is what a console knows of itself.
type sessionShape struct {
	Name     string `json:"name"`
	Role     Role   `json:"role"`
	Selector string `json:"selector,omitempty"`
	Expires  int64  `json:"expires"`
	CSRF     string `json:"csrf,omitempty"` // absent for callers with a token, who need none
	Node     string `json:"node,omitempty"`
}

func (a *API) postSession(c *call) (*reply, error) {
	var b signInBody
	if err := c.body(&b); err != nil {
		return nil, err
	}
	if (b.Token == "") == (b.Secret == "") {
		return nil, &Invalid{Path: "token", Detail: "want either token or secret"}
	}
	var who *identity
	var err error
	if b.Token != "" {
		if who, err = a.identifyToken(c.Context(), b.Token); errors.Is(err, errUnauthenticated) {
			err = errSignIn
		}
	} else {
		who, err = a.redeem(c.Context(), b.Secret)
	}
	if err != nil {
		return nil, a.refused("unauthenticated", err)
	}
	c.audit.Actor = who.name
	secret, err := a.startSession(c.Context(), who)
	if err != nil {
		return nil, err
	}
	rep := ok(a.sessionOf(who))
	rep.header = http.Header{"Set-Cookie": {a.cookie(secret, who.expires).String()}}
	return rep, nil
}

func (a *API) sessionOf(who *identity) sessionShape {
	s := sessionShape{Name: who.name, Role: who.role, Selector: who.boundTo(), Expires: who.expires.UnixMilli(), Node: a.opts.Node}
	if who.session != "" {
		s.CSRF = csrfOf(who.secret)
	}
	return s
}

func (a *API) getSession(c *call) (*reply, error) { return ok(a.sessionOf(c.who)), nil }

func (a *API) deleteSession(c *call) (*reply, error) {
	if c.who.session == "" {
		return nil, &Invalid{Detail: "there is no session: the request came with a token", Hint: "revoke tokens with DELETE /api/v1/operators/{name}/tokens"}
	}
	if err := a.endSession(c.Context(), c.who.session); err != nil {
		return nil, err
	}
	gone := a.cookie("", time.Unix(1, 0))
	gone.MaxAge = -1
	return &reply{status: http.StatusNoContent, header: http.Header{"Set-Cookie": {gone.String()}}}, nil
}
