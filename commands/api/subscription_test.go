package api_test

import "testing"

// TestSubscriptionToNothing: no events are an empty list, and a message that is not understood names no place that there is not.
func TestSubscriptionToNothing(t *testing.T) {
	h := start(t)
	v := h.view(h.admin())
	for said, want := range map[string]string{
		`{"subscribe":{"devices":["*"],"events":[]}}`:           `{"event":"subscribed","events":[]}`,
		`{"subscribe":{"devices":["*"],"events":["presence"]}}`: `{"event":"subscribed","events":["presence"]}`,
		`{`: `{"code":"invalid_json","event":"error","message":"the JSON ends too early"}`,
	} {
		v.say(said)
		if _, got, err := v.conn.ReadMessage(); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v; want %s", said, got, err, want)
		}
	}
}
