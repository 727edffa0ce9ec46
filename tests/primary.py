"""A scripted MongoDB: the primary of a replica set on loopback, which speaks the wire protocol by mockupdb."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Condition
from typing import Any, Self

from bson import ObjectId
from mockupdb import MockupDB

Document = dict[str, Any]
# What a request is answered with; `None` stands for a connection that is closed.
Reply = Callable[["Primary", Document], Document | None]
BOUND = 20.0
# Speaks as MongoDB 7.0.
WIRE_VERSION = 21
SERVER_WORDS = "SERVER-WORDS-canary"


class Primary:
    """Keeps documents by `_id`, one replica-set member that is primary until `step_down`.

    A test scripts what single commands are answered with; else they do what they say, as far as the service asks.
    """

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Document]] = defaultdict(dict)
        self.asked: list[Document] = []
        self._scripts: dict[str, list[Reply]] = defaultdict(list)
        self._always: dict[str, Reply] = {}
        self.is_primary = True
        self._process, self._topology = ObjectId(), 0
        self._waiting: list[Any] = []
        self._changed = Condition()
        # Else a request that nobody wants would end mockupdb's thread.
        self._server = MockupDB(request_timeout=int(1e6))
        self._server.autoresponds(self._is_answered)

    def __enter__(self) -> Self:
        self.port: int = self._server.run()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def url(self, *, credentials: str = "", query: str = "") -> str:
        return f"mongodb://{credentials}127.0.0.1:{self.port}/klamala?{query}"

    def script(self, command: str, *replies: Reply) -> None:
        """Answer the next commands of this name with these replies, in order."""
        self._scripts[command] += replies

    def always(self, command: str, reply: Reply) -> None:
        """Answer every command of this name with this reply, until `heal`."""
        self._always[command] = reply

    def heal(self) -> None:
        """Be primary, and do what commands say."""
        self._scripts.clear()
        self._always.clear()
        self.is_primary = True
        self.change()

    def reset(self) -> None:
        """The same, on an empty database."""
        self.heal()
        self.documents.clear()
        self.asked.clear()

    def step_down(self) -> None:
        """Be a secondary, and tell those who watch."""
        self.is_primary = False
        self.change()

    def change(self) -> None:
        """Tell those who watch how things are."""
        with self._changed:
            self._topology += 1
            waiting, self._waiting = self._waiting, []
        for request in waiting:
            self._send(request, self._hello())

    def leave(self) -> None:
        """Close the connections of those who watch, as a member does that shuts down; it is there again at once."""
        with self._changed:
            assert self._waiting, "nobody watches"
            waiting, self._waiting = self._waiting, []
        for request in waiting:
            self._send(request, None)

    def wait_until_watched(self) -> None:
        """Block until a driver waits to be told of a change."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._waiting, BOUND), "nobody watches"

    def count(self, command: str) -> int:
        """How many commands of this name have come."""
        return sum(command in asked for asked in self.asked)

    def wait_for(self, command: str, count: int) -> None:
        """Block until so many commands of this name have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.count(command) >= count, BOUND), self.asked

    def topology_version(self) -> Document:
        return {"processId": self._process, "counter": self._topology}

    def _is_answered(self, request: Any) -> bool:
        document = {key: value for key, value in request.doc.items() if not key.startswith("$")}
        name = next(iter(document))
        if name.lower() in ("hello", "ismaster"):
            self._greet(request, document)
            return True
        with self._changed:
            self.asked.append(document)
            self._changed.notify_all()
        scripted = self._scripts[name]
        reply = scripted.pop(0) if scripted else self._always.get(name, obey)
        self._send(request, reply(self, document))
        return True

    def _greet(self, request: Any, document: Document) -> None:
        """Answer a monitor that knows the state of things when that changes, and everybody else at once."""
        with self._changed:
            if document.get("topologyVersion") == self.topology_version():
                self._waiting.append(request)
                self._changed.notify_all()
                return
        self._send(request, self._hello())

    def _hello(self) -> Document:
        member = f"127.0.0.1:{self.port}"
        return {
            "ok": 1,
            "helloOk": True,
            "isWritablePrimary": self.is_primary,
            "ismaster": self.is_primary,
            "secondary": not self.is_primary,
            "setName": "rs",
            "setVersion": 1,
            "electionId": ObjectId(b"\x7f" + b"\0" * 11),
            "hosts": [member],
            "me": member,
            **({"primary": member} if self.is_primary else {}),
            "maxBsonObjectSize": 16 * 1024 * 1024,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
            "logicalSessionTimeoutMinutes": 30,
            "minWireVersion": 0,
            "maxWireVersion": WIRE_VERSION,
            "topologyVersion": self.topology_version(),
        }

    def _send(self, request: Any, reply: Document | None) -> None:
        # Whoever asked may not wait any more.
        with suppress(OSError):
            if reply is None:
                request.hangup()
            else:
                request.replies(reply)


def obey(primary: Primary, command: Document) -> Document:
    """Do what the command says; a secondary does none of these."""
    name = next(iter(command))
    if not primary.is_primary and name in ("insert", "find", "update", "createIndexes"):
        return failed(primary, 10107, "NotWritablePrimary", "RetryableWriteError")
    documents = primary.documents[str(command[name])]
    if name == "insert":
        documents.update({document["_id"]: dict(document) for document in command["documents"]})
        return {"ok": 1, "n": len(command["documents"])}
    if name == "find":
        found = [document for document in documents.values() if _matches(document, command["filter"])]
        return {"ok": 1, "cursor": {"id": 0, "ns": f"klamala.{command[name]}", "firstBatch": found}}
    if name == "update":
        (update,) = command["updates"]
        return _updated(documents, update)
    assert name in ("ping", "createIndexes", "endSessions", "saslStart"), command
    return {"ok": 1, "conversationId": 1, "done": True, "payload": b""}


def _updated(documents: dict[str, Document], update: Mapping[str, Any]) -> Document:
    record_id = update["q"]["_id"]
    found = [document for document in documents.values() if _matches(document, update["q"])]
    for document in found:
        document.update(update["u"].get("$set", {}))
    if found or not update.get("upsert"):
        return {"ok": 1, "n": len(found), "nModified": len(found)}
    documents[record_id] = {"_id": record_id, **update["u"]["$setOnInsert"]}
    return {"ok": 1, "n": 1, "nModified": 0, "upserted": [{"index": 0, "_id": record_id}]}


def _matches(document: Document, query: Mapping[str, Any]) -> bool:
    """Whether a document meets a query of equalities and `$in`."""
    for name, wanted in query.items():
        values = wanted["$in"] if isinstance(wanted, Mapping) else [wanted]
        if document.get(name) not in values:
            return False
    return True


def failed(primary: Primary, code: int, name: str, *labels: str) -> Document:
    words = {"ok": 0, "errmsg": SERVER_WORDS, "code": code, "codeName": name, "errorLabels": list(labels)}
    return {**words, "topologyVersion": primary.topology_version()}


def fails(code: int, name: str, *labels: str) -> Reply:
    """The command fails with this error, and the server's own words."""
    return lambda primary, _: failed(primary, code, name, *labels)


def not_primary(primary: Primary, command: Document) -> Document:
    """The member stepped down before the write came; it is still a secondary."""
    primary.step_down()
    return obey(primary, command)


def refuses_document(code: int, name: str) -> Reply:
    """The server is there and does not take what was to be written."""

    def reply(_primary: Primary, _command: Document) -> Document:
        return {"ok": 1, "n": 0, "writeErrors": [{"index": 0, "code": code, "codeName": name, "errmsg": SERVER_WORDS}]}

    return reply


def written_without_a_majority(code: int, name: str, *labels: str) -> Reply:
    """The write is in effect here; whether it stays is unknown."""

    def reply(primary: Primary, command: Document) -> Document:
        error = {"code": code, "codeName": name, "errmsg": SERVER_WORDS, "errInfo": {"wtimeout": code == 64}}
        return {**obey(primary, command), "writeConcernError": error, "errorLabels": list(labels)}

    return reply


def written_by_a_member_that_leaves(primary: Primary, command: Document) -> Document | None:
    """The write is in effect when the member shuts down; another one, here it itself again, is primary."""
    primary.leave()
    return written_without_a_majority(91, "ShutdownInProgress", "RetryableWriteError")(primary, command)


def written_then_gone(primary: Primary, command: Document) -> None:
    """The write is in effect, and the connection is closed before that is said."""
    obey(primary, command)
