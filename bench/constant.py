"""The model's server and MongoDB as the benchmark has them: each request gets an answer that was made before.

`python -m bench.constant CLIENT_JSON` serves both on loopback until its standard input ends, and prints their ports.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import bson

from bench.texts import SIZES, completion

_MESSAGE, _QUERY, _REPLY = 2013, 2004, 1
_HELLO = {
    "isWritablePrimary": True,
    "ismaster": True,
    "helloOk": True,
    "maxBsonObjectSize": 16 * 1024 * 1024,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "localTime": datetime(2026, 11, 1, tzinfo=UTC),
    "logicalSessionTimeoutMinutes": 30,
    "connectionId": 1,
    "minWireVersion": 0,
    "maxWireVersion": 25,
    "readOnly": False,
    "ok": 1.0,
}
# The command's name, and its value: a string with its length.
_FIND_CLIENTS = b"find\0\x08\0\0\0clients\0"
_COUNTER = {"_id": "counter", "amount": 1, "expires_at": datetime(2100, 1, 1, tzinfo=UTC)}


class Model(asyncio.Protocol):
    """Chat Completions over HTTP/1.1: `POST /MILLISECONDS/SIZE/v1/chat/completions`, answered after that time."""

    def __init__(self, answers: Mapping[str, bytes]) -> None:
        self._answers = answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._received = bytearray()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._received[:end]).lower()
            length = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0] or 0)
            if len(self._received) < end + 4 + length:
                return
            del self._received[: end + 4 + length]
            _, milliseconds, size, _ = head.split(b" ", 2)[1].split(b"/", 3)
            answer = self._answers[size.decode()]
            if milliseconds == b"0":
                self._transport.write(answer)
            else:
                asyncio.get_running_loop().call_later(int(milliseconds) / 1000, self._transport.write, answer)


class Mongo(asyncio.Protocol):
    """A server of MongoDB that takes every write, counts to one, and knows one client.

    The wire protocol: https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/.
    """

    def __init__(self, client: dict[str, Any]) -> None:
        found, none = (
            {"cursor": {"id": 0, "ns": "klamala.clients", "firstBatch": batch}, "ok": 1.0} for batch in ([client], [])
        )
        answers: dict[str, dict[str, Any]] = {
            "hello": _HELLO,
            "ismaster": _HELLO,
            "insert": {"n": 1, "ok": 1.0},
            "update": {"n": 1, "nModified": 1, "ok": 1.0},
            "findAndModify": {"lastErrorObject": {"n": 1, "updatedExisting": True}, "value": _COUNTER, "ok": 1.0},
            "find": none,
        }
        self._answers = {name.encode(): bson.encode(answer) for name, answer in answers.items()}
        self._client = bson.encode(found)
        self._other = bson.encode({"ok": 1.0})

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._received = bytearray()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= 4:
            length = int.from_bytes(self._received[:4], "little")
            if len(self._received) < length:
                return
            message = bytes(self._received[:length])
            del self._received[:length]
            self._transport.write(self._answer(message))

    def _answer(self, message: bytes) -> bytes:
        request_id, code = message[4:8], int.from_bytes(message[12:16], "little")
        if code == _QUERY:
            # Drivers greet a server in the old way, which every server understands.
            body = self._answers[b"ismaster"]
            return _framed(request_id, _REPLY, bytes(16) + (1).to_bytes(4, "little") + body)
        # A document of section 0 is its length, a type, the command's name.
        name = message[26 : message.index(b"\0", 26)]
        if message[26:].startswith(_FIND_CLIENTS):
            return _framed(request_id, _MESSAGE, bytes(5) + self._client)
        return _framed(request_id, _MESSAGE, bytes(5) + self._answers.get(name, self._other))


def _framed(request_id: bytes, code: int, body: bytes) -> bytes:
    return (len(body) + 16).to_bytes(4, "little") + bytes(4) + request_id + code.to_bytes(4, "little") + body


async def serve(client: dict[str, Any]) -> None:
    """Serve both, and print `{"model", "mongo"}`, their ports."""
    loop = asyncio.get_running_loop()
    model = await loop.create_server(
        partial(Model, {size: completion(size) for size in SIZES}), "127.0.0.1", 0, backlog=1024
    )
    mongo = await loop.create_server(partial(Mongo, client), "127.0.0.1", 0, backlog=1024)
    ports = {name: server.sockets[0].getsockname()[1] for name, server in (("model", model), ("mongo", mongo))}
    print(json.dumps(ports), flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
