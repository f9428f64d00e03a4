package embedded_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

const (
	errorJSON = "\n" + "application/json"
	tooLong   = 25_000_001
)

func servers() []call {
	return []call{
		{name: "ping", method: "GET", path: "/ping", auth: "none"},
		{name: "ping head", method: "HEAD", path: "/ping", auth: "none"},
		{
			name: "health", method: "GET", path: "/health", auth: "none", differs: "no newline at influxd's end",
			want: answer{200, `{"checks":[],"message":"ready for queries and writes","name":"influxdb","status":"pass","version":"1.8.10"}` + "\n"},
		},
		{name: "unknown path", method: "GET", path: "/api/v2/tasks"},
	}
}

func credentials() []call {
	q := v1("q", "SHOW DATABASES")
	var calls []call
	for _, auth := range []string{"token", "basic", "params", "none", "wrong", "wrong basic", "garbage"} {
		calls = append(calls,
			call{name: "query with " + auth, method: "GET", path: "/query", params: q, auth: auth},
			call{name: "v2 write with " + auth, method: "POST", path: "/api/v2/write", params: v2(), body: "auth v=1 1", auth: auth},
			call{name: "v1 write with " + auth, method: "POST", path: "/write", params: v1(), body: "auth v=1 1", auth: auth})
	}
	denied := answer{401, `{"error":"authorization failed"}` + errorJSON}
	shown := answer{200, `{"results":[{"statement_id":0,"series":[{"name":"databases","columns":["name"],"values":[["telemetry"]]}]}]}` + errorJSON}
	return append(calls,
		call{
			name: "bearer wrong", method: "GET", path: "/query", params: q, auth: "bearer",
			differs: "influxd has a JWT or nothing there", want: denied,
		},
		call{
			name: "bearer", method: "GET", path: "/query", params: q, auth: "good bearer",
			differs: "influxd has a JWT or nothing there", want: shown,
		},
		call{
			name: "bare token", method: "GET", path: "/query", params: q, auth: "bare token",
			differs: "influxd wants user:password", want: shown,
		},
	)
}

func writes() []call {
	return []call{
		{name: "v2 one line", method: "POST", path: "/api/v2/write", params: v2(), body: "w,d=a v=1 1000"},
		{name: "v2 with org", method: "POST", path: "/api/v2/write", params: v2("org", "anything"), body: "w,d=a v=2 2000"},
		{name: "v2 gzip", method: "POST", path: "/api/v2/write", params: v2(), body: "w,d=a v=3 3000\nw,d=b v=4 3000", gzip: true},
		{
			name: "v2 gzip that is none", method: "POST", path: "/api/v2/write", params: v2(), body: "w v=1 1",
			header: map[string]string{"Content-Encoding": "gzip"},
		},
		{name: "v1 gzip", method: "POST", path: "/write", params: v1(), body: "w,d=a v=5 4000", gzip: true},
		{name: "v2 db/rp", method: "POST", path: "/api/v2/write", params: values("bucket", bucket+"/autogen"), body: "w,d=a v=6 5000"},
		{name: "v1 rp", method: "POST", path: "/write", params: v1("rp", "autogen"), body: "w,d=a v=7 6000"},
		{name: "v1 consistency", method: "POST", path: "/write", params: v1("consistency", "all"), body: "w,d=a v=8 7000"},
		{name: "v1 bad consistency", method: "POST", path: "/write", params: v1("consistency", "some"), body: "w,d=a v=9 8000"},
		{name: "unknown bucket", method: "POST", path: "/api/v2/write", params: values("bucket", "nowhere"), body: "w v=1 1"},
		{name: "no bucket", method: "POST", path: "/api/v2/write", body: "w v=1 1"},
		{name: "bucket without db", method: "POST", path: "/api/v2/write", params: values("bucket", "/rp"), body: "w v=1 1"},
		{name: "unknown db", method: "POST", path: "/write", params: values("db", "nowhere"), body: "w v=1 1"},
		{name: "no db", method: "POST", path: "/write", body: "w v=1 1"},
		{
			name: "unknown rp", method: "POST", path: "/write", params: v1("rp", "nope"), body: "w v=1 1",
			differs: "influxd says 500", want: answer{404, `{"error":"retention policy not found: nope"}` + errorJSON},
		},
		{name: "empty body", method: "POST", path: "/api/v2/write", params: v2()},
		{name: "comment only", method: "POST", path: "/api/v2/write", params: v2(), body: "# nothing\n"},
		{name: "blank lines", method: "POST", path: "/api/v2/write", params: v2(), body: "\n\n\n"},
		{name: "crlf", method: "POST", path: "/api/v2/write", params: v2(), body: "w,d=crlf v=1 1\r\nw,d=crlf v=2 2\r\n"},
		{name: "oversize", method: "POST", path: "/api/v2/write", params: v2(), body: strings.Repeat("#", tooLong)},
		{name: "oversize v1", method: "POST", path: "/write", params: v1(), body: strings.Repeat("#", tooLong)},
		{
			name: "oversize when decompressed", method: "POST", path: "/api/v2/write", params: v2(), gzip: true,
			body:    strings.Repeat("#", tooLong),
			differs: "influxd takes it whole", want: answer{413, `{"error":"Request Entity Too Large"}` + errorJSON},
		},
		{
			name: "all types", method: "POST", path: "/api/v2/write", params: v2(),
			body: `types,d=a f=1.5,i=42i,b=true,s="two words, and \"quotes\"" 1000`,
		},
		{
			name: "escapes", method: "POST", path: "/api/v2/write", params: v2(),
			body: `esc\ aped\,name,t\ ag=va\ l\,ue,k\=ey=x f\ ie\,ld="back\\slash" 1000`,
		},
		{
			name: "several shards", method: "POST", path: "/api/v2/write", params: v2(),
			body: "wide v=1 0\nwide v=2 1000000000000000\nwide v=3 1700000000000000000",
		},
	}
}

func precisions() []call {
	var calls []call
	for _, p := range []string{"ns", "us", "ms", "s", ""} {
		calls = append(calls, call{name: "v2 precision " + p, method: "POST", path: "/api/v2/write", params: v2("precision", p), body: "prec2,p=" + p + "x v=1 1600000001"})
	}
	for _, p := range []string{"n", "ns", "u", "ms", "s", "m", ""} {
		calls = append(calls, call{name: "v1 precision " + p, method: "POST", path: "/write", params: v1("precision", p), body: "prec1,p=" + p + "x v=1 16000001"})
	}
	return append(calls,
		call{name: "v1 precision h", method: "POST", path: "/write", params: v1("precision", "h"), body: "prec1,p=h v=1 400001"},
		call{name: "v2 bad precision", method: "POST", path: "/api/v2/write", params: v2("precision", "m"), body: "# not stored"},
		call{name: "v1 bad precision", method: "POST", path: "/write", params: v1("precision", "x"), body: "# not stored"},
		call{name: "out of range time", method: "POST", path: "/api/v2/write", params: v2("precision", "s"), body: "prec2 v=1 9999999999999"},
	)
}

// badLines each stand between two good ones, alone, and first.
func badLines() []call {
	lines := map[string]string{
		"no field":            "bad,d=a 1",
		"no value":            "bad,d=a v= 1",
		"no equals":           "bad,d=a v 1",
		"missing measurement": ",d=a v=1 1",
		"empty tag value":     "bad,d= v=1 1",
		"empty tag key":       "bad,=a v=1 1",
		"tag without value":   "bad,d v=1 1",
		"trailing comma":      "bad,d=a, v=1 1",
		"trailing backslash":  `bad,d=a\ v=1 1`,
		"NaN":                 "bad,d=a v=NaN 1",
		"inf":                 "bad,d=a v=+Inf 1",
		"bad integer":         "bad,d=a v=1.5i 1",
		"huge integer":        "bad,d=a v=99999999999999999999i 1",
		"unsigned":            "bad,d=a v=1u 1",
		"bad boolean":         "bad,d=a v=maybe 1",
		"open string":         `bad,d=a v="open 1`,
		"bad time":            "bad,d=a v=1 soon",
		"time overflow":       "bad,d=a v=1 9223372036854775808",
		"time lowest":         "bad,d=a v=1 -9223372036854775808",
		"duplicate tags":      "bad,d=a,d=b v=1 1",
		"tag named time":      "bad,time=a v=1 1",
		"field named time":    "bad,d=a time=1 1",
		"type conflict":       `types,d=a f="text" 2000`,
		"integer conflict":    "types,d=a f=1i 2000",
		"only a word":         "bad",
		"html":                "<html><body>",
		"control characters":  "bad,d=a\x00b v=1 1",
		"invalid utf8":        "bad,d=a\xff v=1 1",
		"space first":         " bad2,d=a v=1 1",
		"two spaces":          "bad2,d=a  v=1  1",
		"empty string":        `bad2,d=a s="" 1`,
		"unicode":             "bad2,d=größe v=1,s=\"温度\" 1",
	}
	var calls []call
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		bad, key := lines[name], strings.ReplaceAll(name, " ", "_")
		good := func(n int) string { return fmt.Sprintf("good,case=%s v=%d %d", key, n, n) }
		calls = append(calls,
			call{name: name + " alone", method: "POST", path: "/api/v2/write", params: v2(), body: bad},
			call{name: name + " between", method: "POST", path: "/api/v2/write", params: v2(), body: good(1) + "\n" + bad + "\n" + good(2)},
			call{name: name + " first", method: "POST", path: "/write", params: v1(), body: bad + "\n" + good(3)},
		)
	}
	return append(calls,
		call{name: "two bad", method: "POST", path: "/api/v2/write", params: v2(), body: "x\ny\ngood,case=two v=1 1"},
		call{
			name: "two conflicts", method: "POST", path: "/api/v2/write", params: v2(),
			body: "types,d=a f=1i 3000\ntypes,d=a i=1 3000\ngood,case=conflicts v=1 1",
		},
		call{
			name: "conflict and bad", method: "POST", path: "/api/v2/write", params: v2(),
			body: "types,d=a f=1i 3000\nx\ngood,case=both v=1 1",
		},
	)
}

func queries() []call {
	get := func(name, q string, extra ...string) call {
		return call{name: name, method: "GET", path: "/query", params: v1(append([]string{"q", q}, extra...)...)}
	}
	seed := "cpu,host=a,dc=x v=1,w=10i 0\ncpu,host=a,dc=x v=2,w=20i 10000000000\ncpu,host=b,dc=y v=3,w=30i 20000000000\ncpu,host=b,dc=y v=4 80000000000"
	calls := []call{
		{name: "seed", method: "POST", path: "/api/v2/write", params: v2(), body: seed},
		get("no q", ""), get("spaces q", "  "), get("bad q", "SELEKT 1"), get("half q", "SELECT v FROM"),
		get("select", "SELECT v FROM cpu"), get("select all", "SELECT * FROM cpu"),
		get("unknown measurement", "SELECT v FROM nothing"), get("unknown field", "SELECT nothing FROM cpu"),
		get("count", "SELECT count(v) FROM cpu"), get("group by tag", "SELECT mean(v) FROM cpu GROUP BY host"),
		get("group by star", "SELECT v FROM cpu GROUP BY *"),
		get("where", "SELECT v,w FROM cpu WHERE host = 'a' AND time >= 10s"),
		get("limit", "SELECT v FROM cpu LIMIT 1"), get("slimit", "SELECT v FROM cpu GROUP BY host SLIMIT 1"),
		get("desc", "SELECT v FROM cpu ORDER BY time DESC"),
		get("regex", "SELECT v FROM /c.u/ WHERE host =~ /a|b/"),
		get("subquery", "SELECT max(m) FROM (SELECT mean(v) AS m FROM cpu GROUP BY host)"),
		get("two statements", "SELECT v FROM cpu LIMIT 1; SHOW MEASUREMENTS"),
		get("error then more", "SELECT mean(nothing FROM cpu; SHOW MEASUREMENTS"),
		get("runtime error then more", "SELECT v FROM nowhere.autogen.cpu; SHOW MEASUREMENTS; SHOW DATABASES"),
		get("bad aggregate", "SELECT mean(v), w FROM cpu"), get("nested aggregate", "SELECT mean(max(v)) FROM cpu"),
		get("divide by zero", "SELECT v / 0 FROM cpu"), get("pretty", "SELECT v FROM cpu", "pretty", "true"),
		get("pretty error", "SELEKT", "pretty", "true"),
		get("derivative", "SELECT derivative(mean(v), 10s) FROM cpu WHERE time >= 0s AND time < 90s GROUP BY time(10s)"),
		get("percentile", "SELECT percentile(v, 90), stddev(v), spread(v) FROM cpu"),
		get("last", "SELECT last(v), last(w) FROM cpu GROUP BY host"),
		get("params", "SELECT v FROM cpu WHERE host = $h AND v > $v", "params", `{"h":"a","v":1}`),
		get("params float", "SELECT v FROM cpu WHERE v > $v", "params", `{"v":1.5}`),
		get("bad params", "SELECT v FROM cpu", "params", "{"), get("missing param", "SELECT v FROM cpu WHERE v > $x"),
		get("no db", "SELECT v FROM cpu", "db", ""), get("unknown db", "SELECT v FROM cpu", "db", "nowhere"),
		get("unknown rp", "SELECT v FROM cpu", "rp", "nope"), get("rp", "SELECT v FROM cpu LIMIT 1", "rp", "autogen"),
		get("fully named", `SELECT v FROM telemetry.autogen.cpu LIMIT 1`, "db", ""),
		get("show tag values", `SHOW TAG VALUES FROM cpu WITH KEY = host`), get("show series", "SHOW SERIES FROM cpu"),
		get("series cardinality", "SHOW SERIES EXACT CARDINALITY FROM cpu"), get("show users of none", "SHOW GRANTS FOR nobody"),
		get("explain", "EXPLAIN SELECT mean(v) FROM cpu WHERE time >= 0s AND time < 90s"),
		get("system measurement", "SELECT * FROM _series"), get("too many buckets avoided", "SELECT mean(v) FROM cpu WHERE time >= 0s AND time < 10s GROUP BY time(1s) fill(0)"),
	}
	for _, e := range []string{"ns", "n", "u", "µ", "ms", "s", "m", "h", "x"} {
		calls = append(calls, get("epoch "+e, "SELECT v FROM cpu", "epoch", e))
	}
	for _, size := range []string{"1", "2", "0", "-1", "x", ""} {
		calls = append(calls, get("chunked "+size, "SELECT v FROM cpu; SELECT mean(v) FROM cpu GROUP BY host", "chunked", "true", "chunk_size", size))
	}
	for _, kind := range []string{"application/csv", "text/csv", "application/json", "*/*", "application/csv;q=0.5, application/json", "text/html"} {
		c := get("accept "+kind, "SELECT * FROM cpu; SELECT mean(v) FROM cpu GROUP BY host; SHOW MEASUREMENTS")
		c.header = map[string]string{"Accept": kind}
		calls = append(calls, c)
	}
	csvError := get("csv error", "SELEKT")
	csvError.header = map[string]string{"Accept": "application/csv"}
	post := func(name string, form url.Values) call {
		return call{
			name: name, method: "POST", path: "/query", body: form.Encode(),
			header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"},
		}
	}
	return append(calls, csvError,
		post("post form", v1("q", "SELECT v FROM cpu", "epoch", "s")),
		post("post without q", v1()),
		call{name: "post with q in url", method: "POST", path: "/query", params: v1("q", "SELECT v FROM cpu")},
	)
}

// grafana holds what Grafana's InfluxQL data source sends: its test, its editors, a panel, template variables.
func grafana() []call {
	var calls []call
	for i, q := range []string{
		"SHOW DATABASES", "SHOW MEASUREMENTS LIMIT 1", "SHOW MEASUREMENTS", "SHOW RETENTION POLICIES on \"telemetry\"",
		`SHOW MEASUREMENTS WITH MEASUREMENT =~ /(?i)cp/ LIMIT 100`, `SHOW TAG KEYS FROM "cpu"`, `SHOW FIELD KEYS FROM "cpu"`,
		`SHOW TAG VALUES FROM "cpu" WITH KEY = "host"`, `SHOW TAG VALUES WITH KEY = "host" WHERE "dc" = 'x'`, "SHOW FIELD KEYS",
		`SELECT mean("v") FROM "cpu" WHERE time >= 0ms and time <= 90000ms GROUP BY time(10s) fill(null)`,
		`SELECT mean("v") FROM "cpu" WHERE time >= 0ms and time <= 90000ms GROUP BY time(10s), "host"::tag fill(previous)`,
		`SELECT mean("v") FROM "autogen"."cpu" WHERE ("host"::tag =~ /^(a|b)$/) AND time >= 0ms and time <= 90000ms GROUP BY time(10s) fill(linear)`,
		`SELECT mean("v") FROM "cpu" WHERE time >= 0ms and time <= 90000ms GROUP BY time(30s) fill(none); SELECT max("w") FROM "cpu" WHERE time >= 0ms and time <= 90000ms GROUP BY time(30s) fill(0)`,
		`SELECT last("v") FROM "cpu" WHERE time >= 0ms and time <= 90000ms GROUP BY "host"`,
		`SELECT non_negative_derivative(mean("v"), 1s) FROM "cpu" WHERE time >= 0ms and time <= 90000ms GROUP BY time(10s) fill(null)`,
		`SELECT moving_average(mean("v"), 2) FROM "cpu" WHERE time >= 0ms and time <= 90000ms GROUP BY time(10s) fill(previous) tz('Europe/Berlin')`,
		`SELECT count(distinct("v")) FROM "cpu" WHERE time >= 0ms and time <= 90000ms`,
		`SELECT "s" FROM "types" WHERE time >= 0ms and time <= 90000ms ORDER BY time DESC LIMIT 100`,
	} {
		calls = append(calls,
			call{name: fmt.Sprintf("grafana get %d", i), method: "GET", path: "/query", params: v1("q", q, "epoch", "ms"), auth: "basic"},
			call{
				name: fmt.Sprintf("grafana post %d", i), method: "POST", path: "/query", params: v1("epoch", "ms"), auth: "basic",
				body:   url.Values{"q": {q}}.Encode(),
				header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"},
			})
	}
	return calls
}

// changes alter the store through InfluxQL, by POST as they should and by GET, which gives a warning.
func changes() []call {
	var calls []call
	for i, q := range []string{
		"CREATE DATABASE other", `CREATE RETENTION POLICY "short" ON other DURATION 1d REPLICATION 1`, "SHOW RETENTION POLICIES ON other",
		`ALTER RETENTION POLICY "short" ON other DURATION 2d DEFAULT`, "SHOW DATABASES", "DROP RETENTION POLICY short ON other",
		"DROP DATABASE other", "DROP DATABASE other", "CREATE DATABASE \"a/b\"", "SELECT v INTO cpu_copy FROM cpu",
		"SELECT v FROM cpu_copy", "DELETE FROM cpu_copy WHERE time < 5s", "SELECT v FROM cpu_copy", "DROP SERIES FROM cpu_copy WHERE host = 'a'",
		"DROP MEASUREMENT cpu_copy", "SHOW MEASUREMENTS", "KILL QUERY 123456",
	} {
		for _, method := range []string{http.MethodPost, http.MethodGet} {
			calls = append(calls, call{name: fmt.Sprintf("change %d %s", i, method), method: method, path: "/query", params: v1("q", q)})
		}
	}
	unsupported := func(q, why string) call {
		return call{
			name: q, method: "POST", path: "/query", params: v1("q", q), differs: "nothing serves it",
			want: answer{200, `{"results":[{"statement_id":0,"error":"the embedded store ` + why + ` is not supported"}]}` + errorJSON},
		}
	}
	return append(calls,
		unsupported("CREATE USER eve WITH PASSWORD 'x'", "has one token and no users: CREATE USER eve WITH PASSWORD [REDACTED]"),
		unsupported(`CREATE SUBSCRIPTION s ON telemetry.autogen DESTINATIONS ALL 'udp://127.0.0.1:9'`,
			`runs no subscriptions and no continuous queries: CREATE SUBSCRIPTION s ON telemetry.autogen DESTINATIONS ALL 'udp://127.0.0.1:9'`),
	)
}
