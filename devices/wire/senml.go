package wire

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"time"
)

// senMLKey is a label of a SenML record [RFC8428 4.3]; base values come first.
type senMLKey uint8

const (
	senMLNone senMLKey = iota
	senMLBaseName
	senMLBaseTime
	senMLBaseUnit
	senMLBaseValue
	senMLBaseSum
	senMLBaseVersion
	senMLName
	senMLUnit
	senMLValue
	senMLText
	senMLBool
	senMLData
	senMLSum
	senMLTime
	senMLUpdate
	senMLKeys
)

var senMLLabels = [senMLKeys]string{
	senMLBaseName: "bn", senMLBaseTime: "bt", senMLBaseUnit: "bu", senMLBaseValue: "bv", senMLBaseSum: "bs", senMLBaseVersion: "bver",
	senMLName: "n", senMLUnit: "u", senMLValue: "v", senMLText: "vs", senMLBool: "vb", senMLData: "vd", senMLSum: "s",
	senMLTime: "t", senMLUpdate: "ut",
}

const (
	// senMLAbsolute is where times stop to be relative to now [RFC8428 4.5.3].
	senMLAbsolute = int64(1<<28) * int64(time.Second)
	// senMLVersion is the newest version that is understood.
	senMLVersion = 10
	// senMLMerge is how many points back a record looks for one that it belongs to.
	senMLMerge = 64
	// senMLMaxName is the longest name or base name. The two are joined for each record, so a pack of 64 KiB with a long base name
	// would take hundreds of megabytes.
	senMLMaxName = 512
)

var (
	senMLUnitTag    = []byte("unit")
	senMLValueField = []byte("value")
	senMLSumSuffix  = "_sum"
)

// senMLItem is one value of a record: a number's literal, a string, "true" or "false".
type senMLItem struct {
	kind Kind
	text []byte
}

// senml is what the records of a pack share, and the record at hand.
type senml struct {
	seen   uint32
	items  [senMLKeys]senMLItem
	index  int
	name   []byte // base values, resolved
	unit   []byte
	time   int64
	value  float64
	sum    float64
	values bool // a base value is set
	sums   bool
	now    int64
}

func (d *Decoder) beginPack() {
	now := time.Now
	if d.Now != nil {
		now = d.Now
	}
	d.Telemetry.form = formSenML
	d.senml = senml{now: now().UnixNano()}
}

func (d *Decoder) beginRecord(index int) { d.senml.seen, d.senml.index = 0, index }

func (m *senml) has(k senMLKey) bool { return m.seen&(1<<k) != 0 }

// reject refuses a member of the record at hand; "" is the record.
func (m *senml) reject(code Code, label, what string) *Reject {
	path := under("["+strconv.Itoa(m.index)+"]", label)
	return &Reject{Code: code, Path: path, Message: path + ": " + what}
}

// set takes one member.
func (m *senml) set(k senMLKey, v senMLItem) *Reject {
	if m.has(k) {
		return m.reject(InvalidFrame, senMLLabels[k], "is there twice")
	}
	want, what := Number, "must be a number"
	switch k {
	case senMLBaseName, senMLBaseUnit, senMLName, senMLUnit, senMLText, senMLData:
		want, what = Text, "must be a string"
	case senMLBool:
		want, what = Bool, "must be a boolean"
	}
	if v.kind != want {
		return m.reject(InvalidField, senMLLabels[k], what)
	}
	if (k == senMLBaseName || k == senMLName) && len(v.text) > senMLMaxName {
		return m.reject(InvalidField, senMLLabels[k], "must have at most "+strconv.Itoa(senMLMaxName)+" bytes")
	}
	m.seen |= 1 << k
	m.items[k] = v
	return nil
}

// unknown refuses labels that must be understood [RFC8428 4.4]; others are left out.
func (m *senml) unknown(label []byte) *Reject {
	if len(label) > 0 && label[len(label)-1] == '_' {
		return m.reject(InvalidFrame, string(label[:min(len(label), maxName)]), "must be understood and is not")
	}
	return nil
}

// resolve makes a field, or two, of the record at hand [RFC8428 4.6].
func (d *Decoder) resolve() *Reject {
	m := &d.senml
	if rej := m.base(); rej != nil {
		return rej
	}
	if m.seen != 0 && m.seen < 1<<senMLName {
		return nil // base values alone, for the records that follow
	}
	measurement, field, rej := d.senMLField()
	if rej != nil {
		return rej
	}
	at, rej := m.at()
	if rej != nil {
		return rej
	}
	unit := m.unit
	if m.has(senMLUnit) {
		unit = m.items[senMLUnit].text
	}
	f, some, rej := d.senMLValue()
	if rej != nil {
		return rej
	}
	sum := m.has(senMLSum) || !some && m.sums
	if !some && !sum {
		return m.reject(InvalidField, "", "has no value; want one of v, vs, vb, vd, s")
	}
	if some {
		f.Key = field
		if rej := d.senMLPoint(measurement, unit, at, f); rej != nil {
			return rej
		}
	}
	if sum {
		return d.senMLTotal(measurement, unit, at, field)
	}
	return nil
}

// base takes over the record's base values.
func (m *senml) base() *Reject {
	if m.has(senMLBaseVersion) {
		v, err := strconv.ParseFloat(string(m.items[senMLBaseVersion].text), 64)
		if err != nil || v < 1 || v > senMLVersion || v != math.Trunc(v) {
			return m.reject(InvalidFrame, "bver", "is not a version from 1 to "+strconv.Itoa(senMLVersion))
		}
	}
	if m.has(senMLBaseName) {
		m.name = m.items[senMLBaseName].text
	}
	if m.has(senMLBaseUnit) {
		m.unit = m.items[senMLBaseUnit].text
	}
	if m.has(senMLBaseTime) {
		ns, ok := seconds(m.items[senMLBaseTime].text)
		if !ok {
			return m.reject(InvalidTime, "bt", "is out of range for seconds")
		}
		m.time = ns
	}
	for _, b := range []struct {
		key senMLKey
		to  *float64
		set *bool
	}{{senMLBaseValue, &m.value, &m.values}, {senMLBaseSum, &m.sum, &m.sums}} {
		if m.has(b.key) {
			v, err := strconv.ParseFloat(string(m.items[b.key].text), 64)
			if err != nil {
				return m.reject(InvalidField, senMLLabels[b.key], "must be finite and fit 64-bit floating point")
			}
			*b.to, *b.set = v, true
		}
	}
	return nil
}

// senMLField turns the record's name into measurement and field: what is left of the name without the device's id is
// the field, or measurement/field; if nothing is left the field is called value.
func (d *Decoder) senMLField() (measurement, field []byte, rej *Reject) {
	m := &d.senml
	name := m.name
	if m.has(senMLName) {
		name = m.items[senMLName].text
		if len(m.name) > 0 {
			from := len(d.s.scratch)
			d.s.scratch = append(append(d.s.scratch, m.name...), name...)
			name = d.s.scratch[from:len(d.s.scratch):len(d.s.scratch)]
		}
	}
	if len(name) == 0 {
		return nil, nil, m.reject(InvalidField, "n", "is missing, and so is a base name")
	}
	rest, own := ownName(name, d.Device)
	if !own && bytes.HasPrefix(name, devURN) {
		return nil, nil, m.reject(InvalidField, "n", "is a device, and not this one")
	}
	measurement, field = defaultMeasurement, rest
	if i := bytes.IndexByte(rest, '/'); i >= 0 {
		measurement, field = rest[:i], rest[i+1:]
		if why := NameFault(measurement); why != "" {
			return nil, nil, m.reject(InvalidMeasurement, "n", "measurement "+why)
		}
	}
	if own && len(rest) == 0 {
		field = senMLValueField
	}
	if why := NameFault(field); why != "" {
		return nil, nil, m.reject(InvalidField, "n", "field "+why)
	}
	return measurement, field, nil
}

var devURN = []byte("urn:dev:")

// ownName cuts the device's id off a name: the id itself, or a device URN [RFC9039] that holds it, with what divides
// it from the rest.
func ownName(name []byte, device string) (rest []byte, own bool) {
	if device == "" {
		return name, false
	}
	if after, ok := bytes.CutPrefix(name, []byte(device)); ok {
		if len(after) == 0 || after[0] == ':' || after[0] == '/' {
			return after[min(1, len(after)):], true
		}
	}
	if !bytes.HasPrefix(name, devURN) {
		return name, false
	}
	for from := len(devURN) - 1; ; {
		i := bytes.Index(name[from:], []byte(":"+device))
		if i < 0 {
			return name, false
		}
		from += i + 1
		after := name[from+len(device):]
		if len(after) == 0 || bytes.IndexByte([]byte(":/_"), after[0]) >= 0 {
			return after[min(1, len(after)):], true
		}
	}
}

// senMLValue is the record's value with its base, if it has one.
func (d *Decoder) senMLValue() (f Field, some bool, rej *Reject) {
	m := &d.senml
	f.at = int32(m.index)
	for _, k := range [...]senMLKey{senMLValue, senMLText, senMLBool, senMLData} {
		if !m.has(k) {
			continue
		}
		if some {
			return f, false, m.reject(InvalidField, senMLLabels[k], "is a second value")
		}
		some = true
		f.Kind, f.Value = m.items[k].kind, m.items[k].text
	}
	if f.Kind == Number || !some && m.values && !m.has(senMLSum) && !m.sums {
		f.Value, rej = d.senMLNumber("v", f.Value, m.value, m.values)
		f.Kind, some = Number, true
	}
	return f, some, rej
}

// senMLNumber adds a base to a literal, and leaves the literal as it is written where there is none.
func (d *Decoder) senMLNumber(label string, lit []byte, base float64, based bool) ([]byte, *Reject) {
	v := 0.0
	if len(lit) > 0 {
		var err error
		if v, err = strconv.ParseFloat(string(lit), 64); err != nil {
			return nil, d.senml.reject(InvalidField, label, "must be finite and fit 64-bit floating point")
		}
		if !based && len(lit) <= plainDigits && !bytes.ContainsAny(lit, "eE") {
			return lit, nil
		}
	}
	if v += base; math.IsInf(v, 0) || math.IsNaN(v) {
		return nil, d.senml.reject(InvalidField, label, "must be finite and fit 64-bit floating point")
	}
	return d.s.appendFloat(v), nil
}

// senMLTotal stores the record's sum beside its value.
func (d *Decoder) senMLTotal(measurement, unit []byte, at int64, field []byte) *Reject {
	m := &d.senml
	var lit []byte
	if m.has(senMLSum) {
		lit = m.items[senMLSum].text
	}
	lit, rej := d.senMLNumber("s", lit, m.sum, m.sums)
	if rej != nil {
		return rej
	}
	from := len(d.s.scratch)
	d.s.scratch = append(append(d.s.scratch, field...), senMLSumSuffix...)
	key := d.s.scratch[from:len(d.s.scratch):len(d.s.scratch)]
	return d.senMLPoint(measurement, unit, at, Field{Key: key, Kind: Number, at: int32(m.index), Value: lit})
}

// senMLPoint puts a field into the point of the same measurement, unit and time, or into a new one.
func (d *Decoder) senMLPoint(measurement, unit []byte, at int64, f Field) *Reject {
	points := d.Telemetry.Points
	for i := len(points) - 1; i >= max(0, len(points)-senMLMerge); i-- {
		p := &points[i]
		if p.Time == at && bytes.Equal(p.Measurement, measurement) && bytes.Equal(p.unit(), unit) && len(p.Fields) < maxMerged && !p.holds(f.Key) {
			p.Fields = append(p.Fields, f)
			return nil
		}
	}
	p := d.add()
	if p == nil {
		return d.senml.reject(TooManyPoints, "", tooMany)
	}
	p.Measurement, p.Time, p.HasTime = measurement, at, at != 0
	if len(unit) > 0 {
		p.Tags = append(p.Tags, Tag{senMLUnitTag, unit})
	}
	p.Fields = append(p.Fields, f)
	return nil
}

// maxMerged is how many fields a point may have [device-protocol]; a pack with more records than that makes more points.
const maxMerged = 64

func (p *Point) unit() []byte {
	if len(p.Tags) == 0 {
		return nil
	}
	return p.Tags[0].Value
}

func (p *Point) holds(key []byte) bool {
	for i := range p.Fields {
		if bytes.Equal(p.Fields[i].Key, key) {
			return true
		}
	}
	return false
}

// senMLPath names a place of a point by the record that it came from.
func (p *Point) senMLPath(place string) string {
	path := "[" + strconv.Itoa(p.at(place)) + "]"
	switch {
	case place == "measurement":
		return path + ".n"
	case place == "time":
		return path + ".t"
	case strings.HasPrefix(place, "tags"):
		return path + ".u"
	}
	return path
}
