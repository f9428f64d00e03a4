package commands_test

import (
	"slices"
	"testing"

	"github.com/fairlead-hub/fairlead/commands"
)

// What nobody waits for stays until it is overdue or something of its own device goes; it is never passed by what came
// later of its device.
func TestGather(t *testing.T) {
	waiting := []commands.Waiting{
		{Device: "a"},
		{Device: "b"},
		{Device: "a", Urgent: true},
		{Device: "c", Urgent: true},
		{Device: "b"},
		{Device: "c"},
		{Device: "d", Overdue: true},
		{Device: "d"},
	}
	for _, tc := range []struct {
		name     string
		waiting  []commands.Waiting
		all      bool
		messages [][]int // by their places in waiting
		left     []int
	}{
		{"devices with something due", waiting, false, [][]int{{0, 2}, {3, 5}, {6, 7}}, []int{1, 4}},
		{"the last commit takes all", waiting, true, [][]int{{0, 2}, {1, 4}, {3, 5}, {6, 7}}, nil},
		{"nothing due", []commands.Waiting{{Device: "a"}, {Device: "b"}}, false, nil, []int{0, 1}},
		{"one that has no room keeps all behind it back", []commands.Waiting{
			{Device: "a", Urgent: true, Bytes: 150 << 10}, {Device: "a", Urgent: true, Bytes: 150 << 10}, {Device: "b", Urgent: true}, {Device: "a", Urgent: true},
		}, false, [][]int{{0}}, []int{1, 2, 3}},
		{"what JSON escapes counts as it is written", []commands.Waiting{
			{Device: "a", Urgent: true, Bytes: 20 << 10, Of: "\x01"}, {Device: "a", Bytes: 20 << 10, Of: "\x01"},
		}, false, [][]int{{0}}, []int{1}},
	} {
		messages, left := commands.Gather(tc.waiting, tc.all)
		if !slices.EqualFunc(messages, tc.messages, slices.Equal) || !slices.Equal(left, tc.left) {
			t.Errorf("%s: messages %v, left %v; want %v, %v", tc.name, messages, left, tc.messages, tc.left)
		}
	}
}
