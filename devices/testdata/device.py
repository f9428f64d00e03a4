"""A device made of Python's websockets, from the protocol's page alone."""
import asyncio
import json
import sys

import websockets


async def main(url, token):
    headers = {"Authorization": "Bearer " + token}
    # Without a bound: acks that wait here to be read would keep the library from reading the pong behind them.
    async with websockets.connect(url, subprotocols=["fairlead.v1.json"], extra_headers=headers, max_queue=None) as ws:
        assert ws.subprotocol == "fairlead.v1.json", ws.subprotocol
        welcome = json.loads(await ws.recv())
        assert welcome["type"] == "welcome", welcome
        await ws.send(json.dumps({"type": "hello", "firmware": "1.0", "model": "python",
                                  "commands": [{"name": "set_interval"}]}))
        for seq in range(1, 101):
            await ws.send(json.dumps({"type": "telemetry", "seq": seq, "fields": {"temp": 20 + seq / 10}}))
        acked, answered = 0, set()
        pong = await ws.ping()
        await asyncio.wait_for(pong, 10)
        print("ready", flush=True)
        while acked < 100 or len(answered) < 1:
            frame = json.loads(await asyncio.wait_for(ws.recv(), 15))
            if frame["type"] == "ack" and "seq" in frame:
                acked = frame["seq"]
            elif frame["type"] == "ack":
                answered.add(frame["id"])
            elif frame["type"] == "command":
                await ws.send(json.dumps({"type": "result", "id": frame["id"], "ok": True,
                                          "result": {"echo": frame["params"]}}))
            else:
                raise AssertionError(frame)
        print("acked", acked, "answered", sorted(answered), flush=True)
        try:
            while True:
                frame = json.loads(await asyncio.wait_for(ws.recv(), 15))
                if frame["type"] == "bye":
                    print("bye", frame["code"], flush=True)
        except websockets.ConnectionClosed as closed:
            print("closed", closed.code, flush=True)


asyncio.run(main(sys.argv[1], sys.argv[2]))
