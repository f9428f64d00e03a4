// Package embedded is InfluxDB 1.8's own storage engine running inside the hub, behind the part of InfluxDB's HTTP API
// that the hub, influxdb-client-go and Grafana's InfluxQL data source use.
//
// The engine (tsdb, tsm1), its catalogue (services/meta), its query layer (coordinator, query, influxql) and its
// retention service are InfluxDB's packages, unchanged; the HTTP side is this package's own. So the files on disk are
// those of an InfluxDB 1.8 (data, wal, meta), and a client cannot tell the two apart, but for what is listed here:
//
//   - One token opens everything but /ping and /health; there are no users, and statements about users, grants,
//     subscriptions and continuous queries answer with an error, since nothing would serve them.
//   - A retention policy that does not exist answers 404, and an unknown precision answers 400 and stores nothing.
//     (influxd answers 500 to the first and, after its 400, stores the points of the second as nanoseconds.)
//   - The decompressed body counts towards the size limit, not only the compressed one.
//   - A body that spans several shard groups is answered after all of them are on disk, with the dropped points of all.
//   - An unchunked answer ends after Options.MaxRows rows, its last series marked partial, as influxd does with its
//     max-row-limit, which is off by default there.
//   - GET /export?bucket=&from=&to= (RFC 3339 times) streams line protocol.
//   - No Flux, no Prometheus endpoints, no msgpack, no CORS headers, no async queries.
//
// # Durability
//
// 204 is sent after the engine has fsynced its WAL. Around the engine this package adds what a power cut needs: the
// directories of a new shard are fsynced before its first write is acknowledged, and the series file, which the engine
// never fsyncs, is thrown away and rebuilt from WAL and TSM files whenever the store was not closed cleanly. That
// is why the index is "inmem": it is rebuilt from the data at each start, whereas "tsi1" trusts files that may be stale.
// What was half written at the end of the WAL is cut off before the engine goes on writing behind it. A write that the
// WAL could not take, as on a full disk, is the engine's last: then the store is closed, and opened anew when there is room.
package embedded
