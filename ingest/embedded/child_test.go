package embedded_test

import (
	"context"
	"fmt"
	"os"

	"github.com/fairlead-hub/fairlead/ingest/embedded"
)

// childDir makes this test binary run a store on that directory, so that a test can kill it.
const childDir = "FAIRLEAD_TEST_EMBEDDED_DIR"

func runChild(dir string) error {
	s, err := embedded.New(options(dir))
	if err != nil {
		return err
	}
	if err := s.Open(); err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, s.URL())
	return s.Run(context.Background())
}
