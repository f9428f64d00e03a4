"""A device written from docs/device-protocol.md alone, with Python's websockets.

usage: device.py URL CA_FILE TOKEN READINGS START_MS

It sends READINGS readings, one of each millisecond from START_MS on, keeps each until the hub has acked it and sends it
again after a reconnect. It can "add" two numbers, and ends when it is asked to "stop". It prints "acked N" as it goes,
and a summary as JSON at its end.
"""

import asyncio
import json
import random
import ssl
import sys
import time

import websockets

COMMANDS = [
    {
        "name": "add",
        "title": "Add two numbers",
        "params": {
            "type": "object",
            "required": ["a", "b"],
            "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
        },
    },
    {"name": "stop", "title": "Stop", "dangerous": True},
]
BETWEEN_READINGS_S = 0.002
WINDOW = 128  # unacked frames; the hub's welcome may make it less


class Device:
    def __init__(self, url, ca_file, token, readings, start_ms):
        self.url = url
        self.tls = ssl.create_default_context(cafile=ca_file)
        self.token = token
        self.readings = readings
        self.start_ms = start_ms
        self.made = 0  # readings so far
        self.kept = {}  # reading -> its point, until acked
        self.answers = {}  # command id -> result frame, so that a repeated command is not done twice
        self.unacked_answers = set()
        self.counts = {"acked": 0, "resent": 0, "reconnects": 0, "commands": 0, "repeated_commands": 0}
        self.stopping = False
        self.retry_s = 0.1

    def headers(self):
        major = int(websockets.version.version.split(".")[0])
        name = "additional_headers" if major >= 14 else "extra_headers"
        return {name: {"Authorization": "Bearer " + self.token}}

    def finished(self):
        return self.stopping and not self.unacked_answers and self.made == self.readings and not self.kept

    async def run(self):
        first = True
        while not self.finished():
            if not first:
                await asyncio.sleep(self.retry_s * random.uniform(0.5, 1.5))
                self.counts["reconnects"] += 1
            first = False
            try:
                async with websockets.connect(
                    self.url, ssl=self.tls, subprotocols=["fairlead.v1.json"], **self.headers()
                ) as ws:
                    await self.session(ws)
            except websockets.ConnectionClosed as end:
                code = end.rcvd.code if end.rcvd else 1006
                if code >= 4500:
                    raise SystemExit(f"not to come back without a change: {code}")
            except websockets.InvalidHandshake as refusal:
                status = getattr(refusal, "status_code", 0) or getattr(getattr(refusal, "response", None), "status_code", 0)
                if status in (400, 401, 403):
                    raise SystemExit(f"refused: {status}")
            except OSError:
                pass  # the hub is away
        print(json.dumps(self.counts), flush=True)

    async def session(self, ws):
        welcome = json.loads(await ws.recv())
        if welcome["type"] != "welcome" or ws.subprotocol != "fairlead.v1.json":
            raise SystemExit(f"no welcome: {welcome}")
        window = min(WINDOW, welcome["limits"]["unacked_frames"])
        await self.say(ws, {"type": "hello", "firmware": "1.0", "model": "python", "commands": COMMANDS})
        for id in sorted(self.unacked_answers):
            await self.say(ws, self.answers[id])
        self.seq = 0  # of this session
        self.in_flight = {}  # seq -> reading
        for reading in sorted(self.kept):
            self.counts["resent"] += 1
            await self.measure(ws, reading)
        sender = asyncio.create_task(self.send_readings(ws, window))
        try:
            while not self.finished():
                await self.hear(ws, json.loads(await ws.recv()))
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def say(self, ws, frame):
        await ws.send(json.dumps(frame))

    async def send_readings(self, ws, window):
        while self.made < self.readings:
            if len(self.in_flight) < window:
                n = self.made
                self.made += 1
                self.kept[n] = {
                    "measurement": "client",
                    "time": self.start_ms + n,
                    "tags": {"language": "python"},
                    "fields": {"n": n, "half": n / 2, "even": n % 2 == 0},
                }
                await self.measure(ws, n)
            await asyncio.sleep(BETWEEN_READINGS_S)

    async def measure(self, ws, reading):
        self.seq += 1
        self.in_flight[self.seq] = reading
        await self.say(ws, {"type": "telemetry", "seq": self.seq, "points": [self.kept[reading]]})

    async def hear(self, ws, frame):
        kind = frame["type"]
        if kind == "ack" and "id" in frame:
            self.unacked_answers.discard(frame["id"])
        elif kind == "ack":
            for seq in [s for s in self.in_flight if s <= frame["seq"]]:
                del self.kept[self.in_flight.pop(seq)]
                self.counts["acked"] += 1
            print("acked", self.counts["acked"], flush=True)
        elif kind == "command":
            await self.obey(ws, frame)
        elif kind == "bye":
            self.retry_s = frame.get("retry_after_ms", 100) / 1000
        elif kind in ("reject", "error"):
            raise SystemExit(f"not expected: {frame}")

    async def obey(self, ws, command):
        id = command["id"]
        if id in self.answers:
            self.counts["repeated_commands"] += 1
        elif time.time() * 1000 > command["expires"]:
            return
        else:
            await self.say(ws, {"type": "accept", "id": id})
            await self.say(ws, {"type": "progress", "id": id, "percent": 50, "message": "half of it"})
            self.counts["commands"] += 1
            self.answers[id] = {"type": "result", "id": id, **self.outcome(command)}
        self.unacked_answers.add(id)
        await self.say(ws, self.answers[id])

    def outcome(self, command):
        if command["name"] == "add":
            return {"ok": True, "result": {"sum": command["params"]["a"] + command["params"]["b"]}}
        if command["name"] == "stop":
            self.stopping = True
            return {"ok": True}
        return {"ok": False, "error": {"code": "unknown_command", "message": command["name"]}}


if __name__ == "__main__":
    url, ca_file, token, readings, start_ms = sys.argv[1:]
    asyncio.run(Device(url, ca_file, token, int(readings), int(start_ms)).run())
