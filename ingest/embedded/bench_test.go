package embedded_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/fairlead-hub/fairlead/internal/influxtest"
)

const (
	benchLines   = 5000 // a body
	benchDevices = 1000
)

// target is a server to be measured, in a process of its own.
type target struct {
	name, url, token string
	pid              int
}

// targets are the embedded store and the real influxd.
func targets(b *testing.B) []target {
	b.Helper()
	real := influxtest.Start(b, influxtest.Options{Database: bucket})
	url, pid, _ := spawn(b, b.TempDir())
	return []target{{"embedded", url, token, pid}, {"influxd", real.URL, "", real.PID()}}
}

// body appends line i*benchLines and those after it: all devices in turn, a second apart.
func benchBody(dst []byte, i int) []byte {
	for j := i * benchLines; j < (i+1)*benchLines; j++ {
		dst = fmt.Appendf(dst, "climate,device=dev-%05d temperature=%d.%d,humidity=%d.5,battery=%di %d\n",
			j%benchDevices, 15+j%20, j%10, 30+j%60, 3000+j%1200, 1_700_000_000_000_000_000+int64(j/benchDevices)*1_000_000_000)
	}
	return dst
}

func post(t target, body []byte) error {
	req, err := http.NewRequest(http.MethodPost, t.url+"/api/v2/write?bucket="+bucket, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if t.token != "" {
		req.Header.Set("Authorization", "Token "+t.token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusNoContent {
		text, _ := io.ReadAll(res.Body)
		return fmt.Errorf("%s: %s", res.Status, text)
	}
	return nil
}

// BenchmarkWrite sends bodies of 5,000 points of 3 fields, one after the other, and four at a time.
func BenchmarkWrite(b *testing.B) {
	for _, clients := range []int{1, 4} {
		for _, t := range targets(b) {
			b.Run(fmt.Sprintf("%s-%d", t.name, clients), func(b *testing.B) {
				bodies := make([][]byte, b.N)
				for i := range bodies {
					bodies[i] = benchBody(nil, i)
				}
				work := make(chan []byte)
				failed := make(chan error, clients)
				before := cpuSeconds(b, t.pid)
				b.ResetTimer()
				for range clients {
					go func() {
						var first error
						for body := range work {
							if err := post(t, body); err != nil && first == nil {
								first = err
							}
						}
						failed <- first
					}()
				}
				for _, body := range bodies {
					work <- body
				}
				close(work)
				for range clients {
					if err := <-failed; err != nil {
						b.Error(err)
					}
				}
				b.StopTimer()
				b.ReportMetric(float64(b.N*benchLines)/b.Elapsed().Seconds(), "points/s")
				b.ReportMetric((cpuSeconds(b, t.pid)-before)*1e6/float64(b.N*benchLines), "cpu-us/point")
				b.ReportMetric(rss(b, t.pid), "MB-rss")
			})
		}
	}
}

// BenchmarkRSS writes one point to each of some series and reports the memory of both processes. Measured with it, the
// in-memory index takes less than tsi1 at 25 series (17 and 20 MB) and at 100,000 (265 and 316 MB).
func BenchmarkRSS(b *testing.B) {
	for _, series := range []int{25, 100_000} {
		for _, t := range targets(b) {
			b.Run(fmt.Sprintf("%s-%d", t.name, series), func(b *testing.B) {
				for b.Loop() {
					var body []byte
					for i := range series {
						body = fmt.Appendf(body, "climate,device=dev-%06d,site=s%d temperature=1.5,humidity=2,battery=3i 1700000000000000000\n", i, i%50)
						if i%benchLines == benchLines-1 || i == series-1 {
							if err := post(t, body); err != nil {
								b.Fatal(err)
							}
							body = body[:0]
						}
					}
				}
				b.ReportMetric(rss(b, t.pid), "MB-rss")
			})
		}
	}
}

func rss(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Logf("not measured: %v", err) // Linux only
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 64)
			if err != nil {
				b.Fatal(err)
			}
			return n / 1024
		}
	}
	return 0
}

// cpuSeconds is what the process has used; unlike the time on the clock it says something on a busy machine too.
func cpuSeconds(b *testing.B, pid int) float64 {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Logf("not measured: %v", err) // Linux only
		return 0
	}
	const user, system, ticks = 11, 12, 100 // fields after the name; Linux shows USER_HZ, 100 everywhere
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var sum float64
	for _, i := range []int{user, system} {
		n, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += n
	}
	return sum / ticks
}
