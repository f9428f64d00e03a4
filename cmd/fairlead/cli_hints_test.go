package main

import (
	"net/http"
	"strings"
	"testing"
)

// TestHintsSpeakOfCommands: who typed a command is not told which call to make.
func TestHintsSpeakOfCommands(t *testing.T) {
	for code, hint := range hints {
		if ofCalls.MatchString(hint) {
			t.Errorf("%s: %q", code, hint)
		}
		for _, part := range strings.Split(hint, "fairlead ")[1:] {
			words := strings.Fields(strings.ReplaceAll(part, ";", " "))
			if words[0] == "--version" {
				continue
			}
			if cmd, _, err := newRootCommand().Find(words[:2]); err != nil || cmd.Name() != words[1] {
				t.Errorf("%s: there is no command %q", code, words[:2])
			}
		}
	}
	for body, want := range map[string]string{
		`{"code":"device_not_found","detail":"no","hint":"list devices with GET /api/v1/devices"}`: "fairlead devices list",
		`{"code":"too_many_jobs","detail":"no","hint":"wait until one has ended"}`:                 "wait until one has ended",
		`{"code":"new_one","detail":"no","hint":"PATCH it"}`:                                       "no (new_one)",
	} {
		if got := hubRefusal(http.StatusNotFound, []byte(body)).Error(); !strings.Contains(got, want) || ofCalls.MatchString(got) {
			t.Errorf("%s: %q", body, got)
		}
	}
}
