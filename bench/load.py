"""Many callers at once: each service behind gunicorn, as one deploys it off Lambda."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import requests
from bson import encode

from bench.cases import JWT_SECRET, ROOT, Servers
from bench.folders import Folders
from bench.texts import SIZES
from tests.stores import free_port

CONCURRENCIES, UPSTREAMS_MS = (1, 16, 64), (0, 600)
SECONDS, WORKERS, THREADS, BOUND = 3.0, 2, 32, 60.0
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """How a service is started: what gunicorn is told, and where it finds what."""

    name: str
    arguments: tuple[str, ...]
    folders: tuple[Path, ...]


def servers_of(folders: Folders) -> tuple[Server, ...]:
    """Ours with its own configuration; the peers with as many processes, and threads where they use them."""
    gthread = ("--worker-class", "gthread", "--threads", str(THREADS), "--workers", str(WORKERS))
    uvicorn = ("--worker-class", "uvicorn_worker.UvicornWorker", "--workers", str(WORKERS))
    return (
        # gunicorn itself is the peers'.
        Server("klamala", ("-c", str(ROOT / "gunicorn.conf.py"), "app:create_app()"), (folders.ours, folders.peers)),
        Server("flask", (*gthread, "flask_peer:app"), (folders.peers,)),
        Server("fastapi", (*uvicorn, "fastapi_peer:app"), (folders.peers,)),
    )


def measure(folders: Folders, servers: Servers, events: Path, rounds: int) -> dict[str, Any]:
    """`figures` of each case, upstream and concurrency, and the `capacity` of the constant servers alone."""
    event = json.loads(json.loads(events.read_text("utf-8"))["refine-1k"])
    figures = []
    for upstream_ms in UPSTREAMS_MS:
        for concurrency in CONCURRENCIES:
            taken: dict[str, list[Mapping[str, float]]] = {each.name: [] for each in servers_of(folders)}
            for _ in range(rounds):
                for server in servers_of(folders):
                    with _serving(server, folders.python, servers, upstream_ms) as port:
                        request = _request("/refine", port, event["headers"]["authorization"], event["body"])
                        _drive(port, request, concurrency, SECONDS / 4)
                        busy = cpu_seconds(servers.process)
                        figure = _drive(port, request, concurrency, SECONDS)
                        busy = (cpu_seconds(servers.process) - busy) / SECONDS
                        taken[server.name].append({**figure, "servers_cpu": busy})
            what = {"upstream_ms": upstream_ms, "concurrency": concurrency}
            figures += [{"case": name, **what, **_medians(found)} for name, found in taken.items()]
    return {"figures": figures, "capacity": capacity(servers, event["body"])}


def capacity(servers: Servers, body: str, seconds: float = SECONDS) -> dict[str, float]:
    """Answers a second of each constant server with nothing but a socket before it."""
    model = _request(f"/0/{next(iter(SIZES))}/v1/chat/completions", servers.model, "none", body)
    document = encode({"find": "clients", "$db": "klamala"})
    length = (21 + len(document)).to_bytes(4, "little")
    mongo = length + bytes(8) + (2013).to_bytes(4, "little") + bytes(5) + document
    asked = ((servers.model, model, True), (servers.mongo, mongo, False))
    rates = [asyncio.run(_load(port, sent, 16, seconds, http=http))[0] / seconds for port, sent, http in asked]
    return dict(zip(("model", "mongo"), rates, strict=True))


def _medians(found: list[Mapping[str, float]]) -> dict[str, float]:
    return {name: median(each[name] for each in found) for name in found[0]}


@contextmanager
def _serving(server: Server, python: str, servers: Servers, upstream_ms: int) -> Iterator[int]:
    port = free_port()
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(map(str, server.folders)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "DATABASE_URL": servers.database_url,
        "DATA_DIR": str(server.folders[0] / "data"),
        "OPENAI_API_KEY": "sk-bench",
        "OPENAI_BASE_URL": servers.base_url("1k", upstream_ms),
        "JWT_SECRETS": f"k1:{JWT_SECRET}",
        "JWT_SECRET": JWT_SECRET,
        "RATE_LIMIT": "",
        "WEB_CONCURRENCY": str(WORKERS),
        "WEB_THREADS": str(THREADS),
    }
    options = ("--bind", f"127.0.0.1:{port}", "--no-control-socket")
    command = [python, "-P", "-S", "-m", "gunicorn", *options, *server.arguments]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=server.folders[0], env=environ, stdout=quiet, stderr=quiet) as process:
        try:
            _wait(port, process)
            yield port
        finally:
            process.terminate()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + BOUND
    while time.monotonic() < ends and process.poll() is None:
        try:
            requests.get(f"http://127.0.0.1:{port}/", timeout=BOUND)
        except requests.ConnectionError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{process.args!r} does not answer")


def _request(path: str, port: int, authorization: str, body: str) -> bytes:
    sent = body.encode()
    lines = (
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Authorization: {authorization}",
        "Content-Type: application/json",
        f"Content-Length: {len(sent)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + sent


def _drive(port: int, request: bytes, concurrency: int, seconds: float) -> dict[str, float]:
    """Have so many callers ask, each again as soon as it is answered, from a process of its own."""
    command = [sys.executable, "-m", "bench.load", str(port), str(concurrency), str(seconds)]
    done = subprocess.run(command, cwd=ROOT, input=request, capture_output=True, check=True)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def cpu_seconds(process: int) -> float:
    """What a process has had of processors, the kernel's part included."""
    fields = Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


async def _load(port: int, request: bytes, concurrency: int, seconds: float, *, http: bool) -> tuple[int, list[float]]:
    """How many were answered, and the seconds of each. Raises: `RuntimeError` for an answer that is not 200."""
    ends = time.perf_counter() + seconds
    took: list[float] = []

    async def caller() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (started := time.perf_counter()) < ends:
            writer.write(request)
            await (_http_answer(reader) if http else _mongo_answer(reader))
            took.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return len(took), took


async def _http_answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise RuntimeError(head.decode())
    await reader.readexactly(int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]))


async def _mongo_answer(reader: asyncio.StreamReader) -> None:
    await reader.readexactly(int.from_bytes(await reader.readexactly(4), "little") - 4)


def main(port: str, concurrency: str, seconds: str) -> None:
    """Print `requests_per_second` and `p50_ms` of the request on standard input."""
    request = sys.stdin.buffer.read()
    _, took = asyncio.run(_load(int(port), request, int(concurrency), float(seconds), http=True))
    # Little's law: what is counted in a window of seconds is whole rounds of the callers, whatever a call takes.
    print(json.dumps({"requests_per_second": int(concurrency) / mean(took), "p50_ms": median(took) * 1000}))


if __name__ == "__main__":
    main(*sys.argv[1:])
