package influx

import (
	"errors"
	"fmt"
	"strings"
)

// errTooManyFiles says that a query of InfluxDB 3 Core reaches too far: it opens only so many files for one.
var errTooManyFiles = errors.New("InfluxDB 3 Core opens no more files for one query; ask for a shorter time (from, to), or set its --query-file-limit higher")

// coreQuery gives an error of a query the sense that it has here. A database that is not there is made by the first write,
// and holds nothing until then.
func coreQuery(err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "database not found"):
		return nil
	case strings.Contains(text, "exceed file limit"), strings.Contains(text, "exceeding the file limit"):
		return fmt.Errorf("%w: %w", ErrBadRequest, errTooManyFiles)
	}
	return err
}
