// A device written from docs/device-protocol.md alone, with Node's ws.
//
// usage: device.mjs URL CA_FILE TOKEN READINGS START_MS
//
// It sends READINGS readings, one of each millisecond from START_MS on, keeps each until the hub has acked it and sends
// it again after a reconnect. It can "add" two numbers, and ends when it is asked to "stop". It prints "acked N" as it
// goes, and a summary as JSON at its end.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import WebSocket from "ws";

const [url, caFile, token, readings, startMS] = process.argv.slice(2);
const total = Number(readings);
const start = Number(startMS);
const ca = readFileSync(caFile);

const commands = [
  {
    name: "add",
    title: "Add two numbers",
    params: {
      type: "object",
      required: ["a", "b"],
      properties: { a: { type: "number" }, b: { type: "number" } },
    },
  },
  { name: "stop", title: "Stop", dangerous: true },
];
const betweenReadingsMS = 2;
const ownWindow = 128; // unacked frames; the hub's welcome may make it less

// What outlives a connection.
const kept = new Map(); // reading -> its point, until acked
const answers = new Map(); // command id -> result frame, so that a repeated command is not done twice
const unackedAnswers = new Set();
const counts = { acked: 0, resent: 0, reconnects: 0, commands: 0, repeated_commands: 0 };
let made = 0;
let stopping = false;
let retryMS = 100;

const finished = () => stopping && unackedAnswers.size === 0 && made === total && kept.size === 0;

function die(why) {
  console.error(why);
  process.exit(1);
}

// One connection, from its begin to its end.
function session() {
  return new Promise((ended) => {
    const ws = new WebSocket(url, ["fairlead.v1.json"], { ca, headers: { Authorization: `Bearer ${token}` } });
    const inFlight = new Map(); // seq -> reading, in order of seq
    let seq = 0;
    let window = 0;
    let timer;

    const say = (frame) => ws.send(JSON.stringify(frame));
    const measure = (reading) => {
      inFlight.set(++seq, reading);
      say({ type: "telemetry", seq, points: [kept.get(reading)] });
    };
    const read = () => {
      if (made === total || inFlight.size >= window) return;
      const n = made++;
      kept.set(n, {
        measurement: "client",
        time: start + n,
        tags: { language: "node" },
        fields: { n, half: n / 2, even: n % 2 === 0 },
      });
      measure(n);
    };
    const outcome = ({ name, params }) => {
      if (name === "add") return { ok: true, result: { sum: params.a + params.b } };
      if (name === "stop") {
        stopping = true;
        return { ok: true };
      }
      return { ok: false, error: { code: "unknown_command", message: name } };
    };

    const on = {
      welcome({ limits }) {
        window = Math.min(ownWindow, limits.unacked_frames);
        say({ type: "hello", firmware: "1.0", model: "node", commands });
        for (const id of unackedAnswers) say(answers.get(id));
        for (const reading of [...kept.keys()].sort((a, b) => a - b)) {
          counts.resent++;
          measure(reading);
        }
        timer = setInterval(read, betweenReadingsMS);
      },
      ack(frame) {
        if (frame.id !== undefined) {
          unackedAnswers.delete(frame.id);
        } else {
          for (const [s, reading] of inFlight) {
            if (s > frame.seq) break;
            inFlight.delete(s);
            kept.delete(reading);
            counts.acked++;
          }
          console.log("acked", counts.acked);
        }
        if (finished()) ws.close(1000);
      },
      command(frame) {
        if (answers.has(frame.id)) {
          counts.repeated_commands++;
        } else if (Date.now() > frame.expires) {
          return;
        } else {
          counts.commands++;
          say({ type: "accept", id: frame.id });
          say({ type: "progress", id: frame.id, percent: 50, message: "half of it" });
          answers.set(frame.id, { type: "result", id: frame.id, ...outcome(frame) });
        }
        unackedAnswers.add(frame.id);
        say(answers.get(frame.id));
      },
      bye(frame) {
        retryMS = frame.retry_after_ms ?? 100;
      },
      reject: (frame) => die(`not expected: ${JSON.stringify(frame)}`),
      error: (frame) => die(`not expected: ${JSON.stringify(frame)}`),
    };
    ws.on("message", (data) => {
      const frame = JSON.parse(data);
      on[frame.type]?.(frame); // what is not known is ignored
    });
    ws.on("unexpected-response", (_, res) => {
      if ([400, 401, 403].includes(res.statusCode)) die(`refused: ${res.statusCode}`);
      ws.terminate();
    });
    ws.on("error", () => {}); // "close" follows
    ws.on("close", (code) => {
      clearInterval(timer);
      if (code >= 4500 && code < 5000) die(`not to come back without a change: ${code}`);
      ended();
    });
  });
}

for (let first = true; !finished(); first = false) {
  if (!first) {
    await sleep(retryMS * (0.5 + Math.random()));
    counts.reconnects++;
  }
  await session();
}
console.log(JSON.stringify(counts));
