package wire

import (
	"strconv"
	"strings"
)

// reject builds the refusal of one place in point i; i < 0 is the short form.
func reject(code Code, i int, place, what string) *Reject {
	path := place
	if i >= 0 {
		path = "points[" + strconv.Itoa(i) + "]"
		if place != "" {
			path += "." + place
		}
	}
	return &Reject{Code: code, Path: path, Message: path + ": " + what}
}

// NewReject refuses one place of point i of t, in the words of the form that the device used; i < 0 is the frame.
func (t *Telemetry) NewReject(code Code, i int, place, what string) *Reject {
	path := place
	if i >= 0 {
		path = t.path(i, place)
	}
	return &Reject{Seq: t.Seq, Code: code, Path: path, Message: path + ": " + what}
}

// path names a place of point i as the device wrote it.
func (t *Telemetry) path(i int, place string) string {
	p := &t.Points[i]
	switch {
	case t.form == formShort:
		return place
	case t.form == formSenML:
		return p.senMLPath(place)
	case t.form == formLines:
		return under("lines["+strconv.Itoa(p.at(place))+"]", place)
	case p.block > 0:
		return under(blockPath(int(p.block)-1), p.columnPath(place))
	}
	for j := range i {
		if t.Points[j].block > 0 {
			i-- // points are counted without those of blocks that stand before them
		}
	}
	return under("points["+strconv.Itoa(i)+"]", place)
}

func under(path, place string) string {
	if place == "" {
		return path
	}
	return path + "." + place
}

// at is where the message has the field that place names, or the point's first.
func (p *Point) at(place string) int {
	name, _ := strings.CutPrefix(place, "fields.")
	for i := range p.Fields {
		if string(p.Fields[i].Key) == name {
			return int(p.Fields[i].at)
		}
	}
	if len(p.Fields) == 0 {
		return 0
	}
	return int(p.Fields[0].at)
}

// blockPath and columnPath name places of a block: the time of a row comes from the block's start.
func blockPath(b int) string { return "blocks[" + strconv.Itoa(b) + "]" }

func (p *Point) columnPath(place string) string {
	switch {
	case place == "time":
		return "start"
	case strings.HasPrefix(place, "fields."):
		return place + "[" + strconv.Itoa(p.at(place)) + "]"
	}
	return place
}

// moved names the place of a fault anew. Faults of the syntax have none.
func (r *Reject) moved(path string) *Reject {
	if r.Path == "" && strings.HasPrefix(r.Message, "frame: ") {
		return r
	}
	r.Path, r.Message = path, path+strings.TrimPrefix(r.Message, r.Path)
	return r
}
