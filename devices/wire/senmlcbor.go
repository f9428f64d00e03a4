package wire

import (
	"encoding/base64"
	"math"
	"strconv"
)

// senMLNumbers are the labels of CBOR [RFC8428 6], from -6 on.
var senMLNumbers = [...]senMLKey{
	senMLBaseSum, senMLBaseValue, senMLBaseUnit, senMLBaseTime, senMLBaseName, senMLBaseVersion,
	senMLName, senMLUnit, senMLValue, senMLText, senMLBool, senMLSum, senMLTime, senMLUpdate, senMLData,
}

// senMLCBOR reads a pack in CBOR.
func (d *Decoder) senMLCBOR(data []byte) *Reject {
	d.c = cborScanner{in: data}
	d.beginPack()
	c := &d.c
	if c.major() != cborArray {
		return &Reject{Code: InvalidFrame, Message: "message: want a SenML pack, an array of records"}
	}
	if !c.skip(0) {
		return d.cborSyntax()
	}
	if c.pos != len(c.in) {
		return &Reject{Code: InvalidFrame, Message: "message: more than one CBOR item"}
	}
	c.pos = 0
	_, _, n, _ := c.head()
	for i := 0; c.more(n, uint64(i)); i++ {
		d.beginRecord(i)
		if rej := d.senMLCBORRecord(); rej != nil {
			return rej
		}
	}
	return nil
}

func (d *Decoder) senMLCBORRecord() *Reject {
	c, m := &d.c, &d.senml
	if c.major() != cborMap {
		return m.reject(InvalidFrame, "", "must be a map")
	}
	_, _, n, _ := c.head()
	for i := uint64(0); c.more(n, i); i++ {
		k, rej := d.senMLCBORLabel()
		if rej != nil {
			return rej
		}
		if k == senMLNone {
			c.skip(2)
			continue
		}
		v, rej := d.senMLCBORItem(k)
		if rej != nil {
			return rej
		}
		if rej := m.set(k, v); rej != nil {
			return rej
		}
	}
	return d.resolve()
}

func (d *Decoder) senMLCBORLabel() (senMLKey, *Reject) {
	c := &d.c
	if c.major() == cborText {
		label, _ := c.text()
		// Labels with a number of their own are not written as text.
		return senMLNone, d.senml.unknown(label)
	}
	v, ok := c.integer()
	if !ok {
		return senMLNone, d.senml.reject(InvalidFrame, "", "a label must be an integer or a string")
	}
	if v += 6; v < 0 || v >= int64(len(senMLNumbers)) {
		return senMLNone, nil
	}
	return senMLNumbers[v], nil
}

// cborDecimal is the tag of a decimal fraction [RFC8949 3.4.4].
const cborDecimal = 4

func (d *Decoder) senMLCBORItem(k senMLKey) (v senMLItem, rej *Reject) {
	c := &d.c
	switch c.major() {
	case cborText:
		if k == senMLData {
			break
		}
		v.kind = Text
		v.text, _ = c.text()
		return v, nil
	case cborBytes:
		_, _, n, _ := c.head()
		raw := c.in[c.pos : c.pos+int(n)]
		c.pos += int(n)
		if k == senMLData {
			v.kind = Text
			v.text = d.s.appendBase64(raw)
		}
		return v, nil
	case cborUint, cborNegint:
		v.kind = Number
		v.text, _ = d.cborLiteral()
		return v, nil
	case cborTag:
		return d.senMLDecimal(k)
	case cborSimple:
		return d.senMLSimple(k)
	}
	c.skip(2) // of no kind: refused with its label
	return v, nil
}

// cborLiteral reads an integer as JSON would write it.
func (d *Decoder) cborLiteral() ([]byte, bool) {
	major, _, v, ok := d.c.head()
	switch {
	case !ok || major > cborNegint:
		return nil, false
	case v > math.MaxInt64:
		f := float64(v)
		if major == cborNegint {
			f = -1 - f
		}
		return d.s.appendFloat(f), true
	case major == cborNegint:
		return d.s.appendInt(-1 - int64(v)), true
	}
	return d.s.appendInt(int64(v)), true
}

func (d *Decoder) senMLSimple(k senMLKey) (v senMLItem, rej *Reject) {
	_, info, bits, _ := d.c.head()
	switch info {
	case 20:
		return senMLItem{Bool, litFalse}, nil
	case 21:
		return senMLItem{Bool, litTrue}, nil
	}
	f, ok := simpleFloat(info, bits)
	if !ok {
		return v, nil // of no kind
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return v, d.senml.reject(InvalidField, senMLLabels[k], "must be finite")
	}
	// Times keep the digits that a float has; an exponent would say that they are fewer.
	from := len(d.s.scratch)
	d.s.scratch = strconv.AppendFloat(d.s.scratch, f, 'g', -1, 64)
	return senMLItem{Number, d.s.scratch[from:len(d.s.scratch):len(d.s.scratch)]}, nil
}

// senMLDecimal reads mantissa and exponent.
func (d *Decoder) senMLDecimal(k senMLKey) (v senMLItem, rej *Reject) {
	c := &d.c
	_, _, tag, _ := c.head()
	if tag != cborDecimal || c.major() != cborArray {
		c.skip(2)
		return v, nil
	}
	_, _, n, _ := c.head()
	if n != 2 {
		return v, d.senml.reject(InvalidField, senMLLabels[k], "a decimal fraction has two members")
	}
	exp, ok1 := c.integer()
	mantissa, ok2 := d.cborLiteral()
	if !ok1 || !ok2 {
		return v, d.senml.reject(InvalidField, senMLLabels[k], "a decimal fraction is two integers")
	}
	from := len(d.s.scratch)
	d.s.scratch = strconv.AppendInt(append(append(d.s.scratch, mantissa...), 'e'), exp, 10)
	return senMLItem{Number, d.s.scratch[from:len(d.s.scratch):len(d.s.scratch)]}, nil
}

func (s *scanner) appendBase64(raw []byte) []byte {
	from := len(s.scratch)
	s.scratch = base64.RawURLEncoding.AppendEncode(s.scratch, raw)
	return s.scratch[from:len(s.scratch):len(s.scratch)]
}
