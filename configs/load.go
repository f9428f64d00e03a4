package configs

import (
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"regexp"
	"strconv"
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
	var all map[string]any
	if err := yaml.Unmarshal(raw, &all); err == nil {
		// The decoder tells no place of an error of ours.
		if err := checkDurations(reflect.TypeFor[Config](), all, ""); err != nil {
			return err
		}
	}
	if err := yaml.UnmarshalWithOptions(raw, c, yaml.Strict(), yaml.CustomUnmarshaler(duration)); err != nil {
		return errors.New(withLine(strings.TrimSpace(yaml.FormatError(err, false, false)), raw))
	}
	return nil
}

// checkDurations names each key of a section whose duration cannot be read.
func checkDurations(section reflect.Type, values map[string]any, path string) error {
	var errs []error
	for i := range section.NumField() {
		f := section.Field(i)
		key := f.Tag.Get("yaml")
		value, ok := values[key]
		if !ok {
			continue
		}
		if inner, isMap := value.(map[string]any); isMap && f.Type.Kind() == reflect.Struct {
			errs = append(errs, checkDurations(f.Type, inner, path+key+"."))
		}
		if f.Type == reflect.TypeFor[time.Duration]() {
			var d time.Duration
			if err := duration(&d, []byte(fmt.Sprint(value))); err != nil {
				errs = append(errs, fmt.Errorf("%s%s: %w", path, key, err))
			}
		}
	}
	return errors.Join(errs...)
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
			errs = append(errs, fmt.Errorf("%s: %w", name, unwanted(field, value, err)))
		}
	}
	return errors.Join(errs...)
}

// unwanted says what the value of a key must be. The text of a list may hold secrets and is not repeated.
func unwanted(field reflect.Value, value string, err error) error {
	want := ""
	switch {
	case field.Type() == reflect.TypeFor[time.Duration]():
		want = "a duration; write 30s, 5m or 24h"
	case field.Type() == reflect.TypeFor[slog.Level]():
		want = "a level: debug, info, warn or error"
	case field.Kind() == reflect.Bool:
		want = "true or false"
	case field.CanInt():
		want = "a whole number"
	default:
		return fmt.Errorf("%s; write it as the sample has it, see `fairlead config print --sample`", strings.TrimSpace(yaml.FormatError(err, false, false)))
	}
	return fmt.Errorf("%q is not %s", value, want)
}

// place is where an error of the decoder is, secretive what may stand in a line that must not be shown.
var (
	place     = regexp.MustCompile(`^\[(\d+):\d+\]`)
	secretive = regexp.MustCompile(`(?i)token|password|secret|@`)
)

// withLine adds the line that is wrong. The lines around it would help little, and may hold secrets.
func withLine(message string, raw []byte) string {
	at := place.FindStringSubmatch(message)
	if at == nil {
		return message
	}
	lines := strings.Split(string(raw), "\n")
	n, err := strconv.Atoi(at[1])
	if err != nil || n < 1 || n > len(lines) || secretive.MatchString(lines[n-1]) {
		return message
	}
	return message + "\n  " + at[1] + " | " + strings.TrimRight(lines[n-1], " \r")
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
