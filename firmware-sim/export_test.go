package sim

import "time"

// Forget makes the device not send again what was sent without an ack: the negative control of the tests of resending.
func (d *Device) Forget() { d.forget = true }

// Forget does the same for the device of a replay.
func (r *Replay) Forget() { r.device.Forget() }

// Wait is the time before a try.
func (b Backoff) Wait(try int, asked time.Duration) time.Duration {
	return b.withDefaults().wait(try, asked)
}

// ParseTime reads a time as a CSV file has it.
func ParseTime(s string) (time.Time, error) { return parseTime(s) }

// Signal samples a model once a minute for the given number of minutes.
func Signal(model string, seed uint64, minutes int) (rows []map[string]float64) {
	k, err := kindOf(model)
	if err != nil {
		panic(err)
	}
	m, row := k.make(seed), make([]float64, len(k.columns))
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for i := range minutes {
		m.sample(at.Add(time.Duration(i)*time.Minute), row)
		values := map[string]float64{}
		for j, c := range k.columns {
			values[string(c.key)] = row[j]
		}
		rows = append(rows, values)
	}
	return rows
}
