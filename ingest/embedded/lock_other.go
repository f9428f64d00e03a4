//go:build !unix

package embedded

import (
	"io"
	"os"
	"path/filepath"
)

// lockDir keeps the file open; where the system forbids the removal of an open file that is lock enough to be seen.
func lockDir(dir string) (io.Closer, error) {
	return os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
}
