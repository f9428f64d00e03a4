package main

import "regexp"

// hints say what to do in words of the command line; the API's own speak of its calls.
var hints = map[string]string{
	"device_not_found":       "list devices with: fairlead devices list; make one with: fairlead devices add ID",
	"device_exists":          "choose another id, or change this device with: fairlead devices label ID key=value",
	"device_offline":         "let the command wait for the device with --ttl 1h",
	"device_disabled":        "enable it with: fairlead devices enable ID",
	"command_ended":          "see its final state with: fairlead commands show ID",
	"not_confirmed":          "repeat it with --yes",
	"lease_not_found":        "take one with: fairlead devices hold ID",
	"job_not_found":          "list jobs with: fairlead jobs list",
	"job_state":              "see its state with: fairlead jobs show ID",
	"no_devices":             "see which devices fit with: fairlead devices list --selector ...",
	"version_mismatch":       "read the state again with: fairlead state get ID",
	"operator_not_found":     "list operators with: fairlead operators list",
	"unauthenticated":        "give an operator's token with FAIRLEAD_TOKEN or --ready-file; make one with: fairlead operators token NAME",
	"idempotency_key_reused": "",
	"not_found":              "the hub may be of another version than this command; compare with: fairlead --version",
}

// ofCalls finds what only makes sense to who calls the API.
var ofCalls = regexp.MustCompile(`\b(GET|POST|PUT|PATCH|DELETE)\b|/api/|If-Match|Authorization:|Sec-WebSocket`)

// hintFor is the hint of a refusal for who typed a command; "" if there is none for them.
func hintFor(code, hint string) string {
	if own, ok := hints[code]; ok {
		return own
	}
	if ofCalls.MatchString(hint) {
		return ""
	}
	return hint
}
