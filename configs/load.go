package configs

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// Sample is the documented configuration with every default.
//
//go:embed fairlead.yaml
var Sample []byte

// envPrefix begins the name of every variable that sets a key.
const envPrefix = "FAIRLEAD_"

// Load reads the defaults, the file (none if path is empty) and the environment, in the form of os.Environ. The result
// is not yet validated: flags may still change it.
func Load(path string, environ []string) (Config, error) {
	c := Default()
	if path != "" {
		raw, err := os.ReadFile(path)
		if err != nil {
			return c, fmt.Errorf("read configuration: %w", err)
		}
		if err := parse(raw, &c); err != nil {
			return c, fmt.Errorf("%s: %w", path, err)
		}
	}
	if err := fromEnv(&c, environ); err != nil {
		return c, err
	}
	return c, nil
}

// parse reads YAML over what c holds. A list in the file replaces the default's.
func parse(raw []byte, c *Config) error {
	if len(strings.TrimSpace(string(raw))) == 0 {
		return nil
	}
	if err := yaml.UnmarshalWithOptions(raw, c, yaml.Strict(), yaml.CustomUnmarshaler(duration)); err != nil {
		return errors.New(strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	return nil
}

// duration reads 30s and the like. A bare number is refused: nobody knows its unit.
func duration(d *time.Duration, raw []byte) error {
	text := strings.Trim(strings.TrimSpace(string(raw)), `"'`)
	v, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is not a duration; write 30s, 5m or 24h", text)
	}
	*d = v
	return nil
}

// fromEnv sets the keys that the environment names. A variable with our prefix that names no key is an error, as an
// unknown key in the file is; those of the command line's own client are left alone.
func fromEnv(c *Config, environ []string) error {
	keys := make(map[string]reflect.Value)
	collect(reflect.ValueOf(c).Elem(), envPrefix, keys)
	var errs []error
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) || clientVariables[name] {
			continue
		}
		field, ok := keys[name]
		if !ok {
			errs = append(errs, fmt.Errorf("%s: no such key; `fairlead config print` shows all", name))
			continue
		}
		if field.Kind() == reflect.String {
			field.SetString(value)
			continue
		}
		if err := yaml.UnmarshalWithOptions([]byte(value), field.Addr().Interface(), yaml.Strict(), yaml.CustomUnmarshaler(duration)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s", name, strings.TrimSpace(yaml.FormatError(err, false, false))))
		}
	}
	return errors.Join(errs...)
}

// clientVariables belong to the commands that talk to a hub.
var clientVariables = map[string]bool{"FAIRLEAD_URL": true, "FAIRLEAD_TOKEN": true, "FAIRLEAD_CA": true, "FAIRLEAD_READY_FILE": true}

// collect maps every variable's name to its key.
func collect(v reflect.Value, prefix string, into map[string]reflect.Value) {
	for i := range v.NumField() {
		name := prefix + strings.ToUpper(v.Type().Field(i).Tag.Get("yaml"))
		if f := v.Field(i); f.Kind() == reflect.Struct {
			collect(f, name+"_", into)
		} else {
			into[name] = f
		}
	}
}

// Print writes c as YAML, secrets hidden.
func Print(c Config) ([]byte, error) {
	out, err := yaml.MarshalWithOptions(c, yaml.CustomMarshaler(func(d time.Duration) ([]byte, error) {
		return []byte(d.String()), nil
	}))
	if err != nil {
		return nil, fmt.Errorf("print configuration: %w", err)
	}
	return out, nil
}
