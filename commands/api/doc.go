// Package api is the operators' side of the hub: HTTP and JSON under /api/v1, the live WebSocket, operator tokens and
// roles, console sessions, and the audit log. docs/operator-api.md is the norm, openapi.yaml beside this file is its
// exact form, and the tests hold the handlers against it.
//
// A request passes one gate (gate.go) on its way to a handler: limits, who is it, CSRF, role, which devices may it see.
// The handler returns a reply or an error; one table (errors.go) turns errors into problem documents; a change is in the
// audit log before it is answered.
//
// The package asks the other rooms through the narrow interfaces of ports.go; cmd/fairlead adapts them. It keeps no
// state that another node could miss: operators, sessions and sign-in links live in the operators bucket, which every
// node watches into memory, so that a removed operator is out everywhere at once.
package api
