package api

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/fairlead-hub/fairlead/devices/wire"
)

type auditList struct {
	Records []Record `json:"records"`
	Cursor  string   `json:"cursor,omitempty"`
}

func (a *API) getAudit(c *call) (*reply, error) {
	p, err := page(c.URL.Query())
	if err != nil {
		return nil, err
	}
	records, cursor, err := a.audit.list(c.Context(), p)
	if err != nil {
		return nil, err
	}
	return ok(auditList{records, cursor}), nil
}

func (a *API) getAuditVerify(c *call) (*reply, error) {
	v, err := a.Verify(c.Context())
	if err != nil {
		return nil, err
	}
	return ok(v), nil
}

type deadletterList struct {
	Deadletters []Deadletter `json:"deadletters"`
	Cursor      string       `json:"cursor,omitempty"`
}

func (a *API) getDeadletters(c *call) (*reply, error) {
	q := c.URL.Query()
	p, err := page(q)
	if err != nil {
		return nil, err
	}
	found, err := a.opts.Deadletters.List(c.Context(), DeadletterQuery{Device: q.Get("device"), Visible: a.visibleTo(c.who), Page: p})
	if err != nil {
		return nil, err
	}
	if found.Deadletters == nil {
		found.Deadletters = []Deadletter{}
	}
	return ok(deadletterList(found)), nil
}

type replayBody struct {
	Device string   `json:"device"`
	IDs    []uint64 `json:"ids"`
}

type replayed struct {
	Replayed int `json:"replayed"`
}

func (a *API) postReplay(c *call) (*reply, error) {
	var b replayBody
	if err := c.optionalBody(&b); err != nil {
		return nil, err
	}
	if err := wire.CheckID(b.Device); b.Device != "" && err != nil {
		return nil, &Invalid{Code: "invalid_id", Path: "device", Detail: err.Error()}
	}
	if len(b.IDs) > maxLimit {
		return nil, &Invalid{Path: "ids", Detail: fmt.Sprintf("%d ids, at most %d", len(b.IDs), maxLimit)}
	}
	if i := slices.Index(b.IDs, 0); i >= 0 { // also what null is read as
		return nil, &Invalid{Path: fmt.Sprintf("ids[%d]", i), Detail: fmt.Sprintf("ids[%d] is not the id of a dead letter", i), Hint: "GET /api/v1/deadletters lists them"}
	}
	c.audit.Target = b.Device
	n, err := a.opts.Deadletters.Replay(c.Context(), b.Device, b.IDs)
	if err != nil {
		return nil, err
	}
	c.audit.Detail = strconv.Itoa(n) + " replayed"
	return ok(replayed{n}), nil
}

func (a *API) getBridge(c *call) (*reply, error) {
	b, err := a.opts.Bridge.Status(c.Context())
	if err != nil {
		return nil, err
	}
	if b.Connections == nil {
		b.Connections = []BridgeConnection{}
	}
	for i := range b.Connections {
		conn := &b.Connections[i]
		if conn.Profiles == nil {
			conn.Profiles = []string{}
		}
		if conn.Topics == nil {
			conn.Topics = []BridgeTopic{}
		}
	}
	return ok(b), nil
}

type nodeList struct {
	Nodes []Node `json:"nodes"`
}

func (a *API) getNodes(c *call) (*reply, error) {
	nodes, err := a.opts.Nodes.Nodes(c.Context())
	if err != nil {
		return nil, err
	}
	if nodes == nil {
		nodes = []Node{}
	}
	return ok(nodeList{nodes}), nil
}

type frameList struct {
	Frames []TraceFrame `json:"frames"`
}

func (a *API) getTrace(c *call) (*reply, error) {
	p, err := page(c.URL.Query())
	if err != nil {
		return nil, err
	}
	frames, err := a.opts.Trace.Frames(c.Context(), c.PathValue("id"), p.Limit)
	if err != nil {
		return nil, err
	}
	if frames == nil {
		frames = []TraceFrame{}
	}
	return ok(frameList{frames}), nil
}

// getDocument serves the OpenAPI document, which holds nothing of this hub but which parts it has.
func (a *API) getDocument(w http.ResponseWriter, _ *http.Request) {
	document, err := a.document()
	if err != nil { // of a source that this very program was built with
		a.opts.Log.Error("openapi document", "err", err)
		doc, _ := toProblem(err)
		doc.Write(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(document)
}
