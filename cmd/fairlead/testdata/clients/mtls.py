"""A device with a certificate of its own, with Python's websockets.

usage: mtls.py URL CA_FILE TOKEN [CERT_FILE KEY_FILE]

It connects, sends one reading and prints "acked 1"; or "refused STATUS", if the hub refuses it; or "no TLS", if the
handshake fails.
"""

import asyncio
import json
import ssl
import sys

import websockets


async def main(url, ca_file, token, *own):
    tls = ssl.create_default_context(cafile=ca_file)
    if own:
        tls.load_cert_chain(*own)
    major = int(websockets.version.version.split(".")[0])
    headers = {"additional_headers" if major >= 14 else "extra_headers": {"Authorization": "Bearer " + token}}
    try:
        async with websockets.connect(url, ssl=tls, **headers) as ws:
            await ws.send(json.dumps({"type": "telemetry", "seq": 1, "fields": {"temp": 21.5}}))
            while True:
                frame = json.loads(await ws.recv())
                if frame["type"] == "ack":
                    print("acked", frame["seq"])
                    return
    except (websockets.exceptions.InvalidMessage, ssl.SSLError, EOFError, ConnectionError):
        print("no TLS")
    except websockets.exceptions.InvalidHandshake as refused:
        print("refused", getattr(refused, "status_code", None) or refused.response.status_code)


asyncio.run(main(*sys.argv[1:]))
