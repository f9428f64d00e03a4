// Package durable writes small files, such as keys and secrets, so that a power cut leaves them whole or not there at
// all: several rooms keep some, and a hub that finds an empty one cannot start.
package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// parents is how many directories above a file are synced with it: they may be as new as the file.
const parents = 4

// WriteFile puts data into a file of that mode, or returns an error and leaves what was there.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(tmp))
	}
	return syncParents(path)
}

// syncParents makes the names durable that lead to path.
func syncParents(path string) error {
	dir := filepath.Dir(path)
	for range parents {
		f, err := os.Open(dir)
		if err != nil {
			if dir != filepath.Dir(path) {
				return nil // above what is ours
			}
			return fmt.Errorf("sync %s: %w", dir, err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil && dir == filepath.Dir(path) {
			return fmt.Errorf("sync %s: %w", dir, err)
		}
		dir = filepath.Dir(dir)
	}
	return nil
}

// Remove takes a file away so that a power cut does not bring it back.
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return syncParents(path)
}
