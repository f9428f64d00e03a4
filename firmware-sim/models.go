package sim

import (
	"fmt"
	"strings"
)

var kinds = []*kind{&thermostatKind, &pumpKind, &meterKind, &trackerKind}

// Models lists the names of the models, in the order a mixed fleet takes them.
func Models() []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.name
	}
	return names
}

func kindOf(name string) (*kind, error) {
	for _, k := range kinds {
		if k.name == name {
			return k, nil
		}
	}
	return nil, fmt.Errorf("model %q is not known; there are %s", name, strings.Join(Models(), ", "))
}
