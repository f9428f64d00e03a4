package main

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/commands/api"
)

func newQueryCommand() *cobra.Command {
	var from, to, every, fn string
	var width int
	cmd := &cobra.Command{
		Use: "query DEVICE FIELD", Short: "Show the history of a field as a line in the terminal",
		Long: "FIELD is the name of a field, or measurement.field. With -o json the values are printed as the API gives them.",
		Args: exactArgs(2),
	}
	f := addClientFlags(cmd)
	cmd.Flags().StringVar(&from, "from", "-1h", "-1h, RFC 3339 or Unix milliseconds")
	cmd.Flags().StringVar(&to, "to", "now", "as --from, or now")
	cmd.Flags().StringVar(&every, "every", "", "how much time one value stands for; default fits --width")
	cmd.Flags().StringVar(&fn, "fn", "mean", "mean, min, max, first, last, sum, count, median, spread or stddev")
	cmd.Flags().IntVar(&width, "width", 60, "characters of the line")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		w, err := newWindow(from, to, every, width, time.Now())
		if err != nil {
			return err
		}
		q := url.Values{"from": {ms(w.from)}, "to": {ms(w.to)}, "every": {w.every.String()}, "fn": {fn}, "fields": {args[1]}}
		if measurement, field, ok := strings.Cut(args[1], "."); ok {
			q.Set("measurement", measurement)
			q.Set("fields", field)
		}
		var list struct {
			Series []api.Series `json:"series"`
		}
		raw, err := c.get(cmd.Context(), "/devices/"+escape(args[0])+"/telemetry", q, &list)
		if err != nil || c.json {
			return printRaw(cmd, raw, err)
		}
		if len(list.Series) == 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s has no values of %s from %s to %s\n", args[0], args[1], w.from.Format(time.DateTime), w.to.Format(time.DateTime))
		}
		for _, s := range list.Series {
			printSeries(cmd, s, w)
		}
		return nil
	}
	return cmd
}

func ms(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// window is the time that a line shows.
type window struct {
	from, to time.Time
	every    time.Duration
	width    int
}

func newWindow(from, to, every string, width int, now time.Time) (window, error) {
	w := window{width: width}
	var err error
	if w.from, err = whenever("--from", from, now); err != nil {
		return w, err
	}
	if w.to, err = whenever("--to", to, now); err != nil {
		return w, err
	}
	if !w.from.Before(w.to) || width < 1 || width > 1000 {
		return w, usage("want --from before --to, and a --width of 1 to 1000")
	}
	if every != "" {
		if w.every, err = time.ParseDuration(every); err != nil || w.every < time.Millisecond {
			return w, usage("--every %q: want a duration, as 10s", every)
		}
		return w, nil
	}
	w.every = max(w.to.Sub(w.from)/time.Duration(width), time.Millisecond).Round(time.Millisecond)
	return w, nil
}

func whenever(flag, s string, now time.Time) (time.Time, error) {
	if s == "now" {
		return now, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
		return time.UnixMilli(n), nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n < 0 && n > -36500 {
			return now.Add(time.Duration(n * float64(24*time.Hour))), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d <= 0 {
		return now.Add(d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, usage("%s %q: want now, -1h, -7d, RFC 3339 or Unix milliseconds", flag, s)
	}
	return t, nil
}

var bars = []rune("▁▂▃▄▅▆▇█")

// sparkline draws a series over the window; where there is no value it leaves a blank.
func sparkline(s api.Series, w window) (line string, low, high float64) {
	sums, counts := make([]float64, w.width), make([]int, w.width)
	for i, at := range s.Times {
		v, ok := s.Values[i].(float64)
		if !ok {
			continue
		}
		slot := int(float64(time.UnixMilli(at).Sub(w.from)) / float64(w.to.Sub(w.from)) * float64(w.width))
		slot = min(max(slot, 0), w.width-1)
		sums[slot] += v
		counts[slot]++
	}
	low, high = math.Inf(1), math.Inf(-1)
	for i, n := range counts {
		if n > 0 {
			sums[i] /= float64(n)
			low, high = min(low, sums[i]), max(high, sums[i])
		}
	}
	out := make([]rune, w.width)
	for i, n := range counts {
		out[i] = ' '
		if n == 0 {
			continue
		}
		level := 0
		if high > low {
			level = int((sums[i] - low) / (high - low) * float64(len(bars)-1))
		}
		out[i] = bars[level]
	}
	return string(out), low, high
}

func printSeries(cmd *cobra.Command, s api.Series, w window) {
	out := cmd.OutOrStdout()
	name := plain(s.Measurement + "." + s.Field)
	if tags := pairs(s.Tags); tags != "" {
		name += " {" + plain(tags) + "}"
	}
	if len(s.Times) == 0 {
		fmt.Fprintf(out, "%s  no values\n", name)
		return
	}
	line, low, high := sparkline(s, w)
	last := len(s.Times) - 1
	if math.IsInf(low, 1) {
		fmt.Fprintf(out, "%s  %d values, last %s at %s\n", name, len(s.Times), number(s.Values[last]), moment(s.Times[last]))
		return
	}
	fmt.Fprintf(out, "%s\n%s\nmin %s  max %s  last %s at %s\n", name, line, number(low), number(high), number(s.Values[last]), moment(s.Times[last]))
}
