package wire

func (d *Decoder) cborBlocks() *Reject {
	c := &d.c
	if c.major() != cborArray {
		return &Reject{Code: InvalidFrame, Message: "blocks: must be an array", Path: "blocks"}
	}
	_, _, n, _ := c.head()
	for b := 0; c.more(n, uint64(b)); b++ {
		d.begin(b)
		if rej := d.cborBlock(); rej != nil {
			return rej.moved(under(blockPath(b), rej.Path))
		}
	}
	return nil
}

func (d *Decoder) cborBlock() *Reject {
	c := &d.c
	if c.major() != cborMap {
		return reject(InvalidFrame, -1, "", "must be an object")
	}
	var seen uint16
	columns := 0
	_, _, n, _ := c.head()
	for i := uint64(0); c.more(n, i); i++ {
		name, ok := c.text()
		if !ok {
			return d.cborSyntax()
		}
		key := blockKey(name)
		if seen&key != 0 {
			return reject(InvalidFrame, -1, string(name), "is there twice")
		}
		seen |= key
		if key == keyFields {
			columns = c.pos
		}
		if rej := d.cborBlockMember(key); rej != nil {
			return rej
		}
	}
	if rej := missing(seen); rej != nil {
		return rej
	}
	end := c.pos
	c.pos = columns
	rej := d.cborColumns()
	c.pos = end
	return rej
}

func (d *Decoder) cborBlockMember(key uint16) *Reject {
	switch key {
	case keyStart:
		if rej := d.cborTime(&d.head.Point, -1); rej != nil {
			return rej.moved(blockPlace(rej.Path))
		}
	case keyStep:
		v, ok := d.c.number()
		if !ok {
			return badStep()
		}
		return d.setStep(v)
	case keyMeasurement, keyTags:
		return d.cborMember(&d.head.Point, uint8(key), -1)
	default:
		if !d.c.skip(3) {
			return d.cborSyntax()
		}
	}
	return nil
}

func (d *Decoder) cborColumns() *Reject {
	c := &d.c
	if c.major() != cborMap {
		return reject(InvalidField, -1, "fields", "must be an object of arrays")
	}
	_, _, n, _ := c.head()
	for i := uint64(0); c.more(n, i); i++ {
		key, ok := c.text()
		if !ok {
			return d.cborSyntax()
		}
		if rej := d.cborColumn(key, i == 0); rej != nil {
			return rej
		}
	}
	return d.finishRows()
}

func (d *Decoder) cborColumn(key []byte, first bool) *Reject {
	c := &d.c
	if c.major() != cborArray {
		return reject(InvalidField, -1, "fields."+string(key), "must be an array of values")
	}
	_, _, n, _ := c.head()
	row := 0
	for ; c.more(n, uint64(row)); row++ {
		p, rej := d.row(key, row, first)
		if rej != nil {
			return rej
		}
		before := len(p.Fields)
		if rej := d.cborField(p, key, -1); rej != nil {
			return rej.moved(valuePath(rej.Path, row))
		}
		p.mark(before, row)
	}
	return d.endColumn(key, row)
}
