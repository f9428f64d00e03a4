package wire

import "unicode/utf8"

// senMLLabelOf finds the key of a label.
func senMLLabelOf(label []byte) senMLKey {
	for k := senMLBaseName; k < senMLKeys; k++ {
		if senMLLabels[k] == string(label) {
			return k
		}
	}
	return senMLNone
}

// senMLJSON reads a pack in JSON [RFC8428 5].
func (d *Decoder) senMLJSON(data []byte) *Reject {
	if !utf8.Valid(data) {
		return &Reject{Code: InvalidJSON, Message: "frame: not valid UTF-8"}
	}
	d.beginPack()
	s := &d.s
	if s.peek() != '[' {
		return d.other("message: want a SenML pack, an array of records")
	}
	s.pos++
	for i := 0; ; i++ {
		another, ok := s.more(']', i)
		if !ok {
			return d.syntax()
		}
		if !another {
			break
		}
		d.beginRecord(i)
		if rej := d.senMLRecord(); rej != nil {
			return rej
		}
	}
	if s.peek() != 0 || s.pos < len(s.in) {
		return &Reject{Code: InvalidJSON, Message: "message: more than one value"}
	}
	return nil
}

func (d *Decoder) senMLRecord() *Reject {
	s, m := &d.s, &d.senml
	if s.peek() != '{' {
		return m.reject(InvalidFrame, "", "must be an object")
	}
	s.pos++
	for n := 0; ; n++ {
		another, ok := s.more('}', n)
		if !ok {
			return d.syntax()
		}
		if !another {
			return d.resolve()
		}
		label, ok := s.key()
		if !ok {
			return d.syntax()
		}
		k := senMLLabelOf(label)
		if k == senMLNone {
			if rej := m.unknown(label); rej != nil {
				return rej
			}
			if !s.skip(2) {
				return d.syntax()
			}
			continue
		}
		v, rej := d.senMLJSONItem(k)
		if rej != nil {
			return rej
		}
		if rej := m.set(k, v); rej != nil {
			return rej
		}
	}
}

func (d *Decoder) senMLJSONItem(k senMLKey) (v senMLItem, rej *Reject) {
	s := &d.s
	ok := true
	switch c := s.peek(); {
	case c == '"':
		v.kind = Text
		v.text, ok = s.str()
	case c == '-' && s.notFinite(), c == 'N', c == 'I':
		return v, d.senml.reject(InvalidField, senMLLabels[k], "must be finite")
	case c == '-' || c-'0' <= 9:
		v.kind = Number
		v.text, _, ok = s.number()
	case s.word("true"):
		v = senMLItem{Bool, litTrue}
	case s.word("false"):
		v = senMLItem{Bool, litFalse}
	default:
		ok = s.skip(2) // of no kind: refused with its label
	}
	if !ok {
		return v, d.syntax()
	}
	return v, nil
}
