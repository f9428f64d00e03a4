package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// readyVariable names the ready file for all commands that talk to a hub.
const readyVariable = "FAIRLEAD_READY_FILE"

// readyInfo is what --ready-file tells once all parts serve: where everything is and how to get in. Scripts and tests
// read it; it holds secrets, so only its owner may.
type readyInfo struct {
	URL          string `json:"url"`
	CAFile       string `json:"ca_file"`
	AdminToken   string `json:"admin_token"`
	InfluxURL    string `json:"influx_url"`
	InfluxToken  string `json:"influx_token"`
	InfluxOrg    string `json:"influx_org"`
	InfluxBucket string `json:"influx_bucket"`
	MQTTURL      string `json:"mqtt_url"`
	MQTTUsername string `json:"mqtt_username"`
	MQTTPassword string `json:"mqtt_password"`
	AdminURL     string `json:"admin_url"`
	DataDir      string `json:"data_dir"`
	PID          int    `json:"pid"`
	Version      string `json:"version"`
}

// write puts the file in place at once, so that nobody reads half of it.
func (r readyInfo) write(file string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".ready-*") // mode 0600
	if err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(append(raw, '\n')); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	return nil
}
