"""The disk under the embedded database is full: before the call, while the model thinks, and with space again."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from scripts.service import ROOT, Service
from tests import upstream as fake
from tests.e2e.faults.scene import assert_refused, in_time, settings
from tests.e2e.test_outbox import until
from tests.e2e.test_service import Caller
from tests.stores import sqlite_url
from tests.upstream import Upstream

NO_DISK = "no mount namespace may be made here (unshare --user --mount): a small disk of the test's own is left out"
DISK_BYTES = 8 * 1024 * 1024
BOUND = 30.0


@dataclass
class Disk:
    """A folder, what processes that use it are started under, and how the disk gets full and free again."""

    folder: Path
    under: tuple[str, ...]
    fill: Callable[[Service], None]
    free: Callable[[Service], None]


def small_disk(folder: Path) -> Iterator[Disk]:
    """A file system of 8 MiB in memory, mounted where only the service and its commands see it, without privileges."""
    script = f"mount -t tmpfs -o size={DISK_BYTES} none {folder} && echo mounted && exec cat"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    if not (shutil.which("unshare") and shutil.which("nsenter")):
        pytest.skip(NO_DISK)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout
        if keeper.stdout.readline() != "mounted\n":
            pytest.skip(NO_DISK)
        target = ["--target", str(keeper.pid), "--user", "--mount", "--preserve-credentials"]
        filling = Path(f"/proc/{keeper.pid}/root{folder}/filling")

        def fill(_service: Service) -> None:
            with suppress(OSError), filling.open("wb", 0) as file:
                while True:
                    file.write(bytes(4096))
            assert os.statvfs(filling.parent).f_bfree == 0

        under = ("nsenter", *target, "env", f"--chdir={ROOT}")
        yield Disk(folder, under, fill, lambda _service: filling.unlink())


def file_limit(folder: Path) -> Iterator[Disk]:
    """No file may grow: what a container without rights has of a full disk. Each write of the service fails."""

    def limit(service: Service, size: int) -> None:
        master = service.process.pid
        children = Path(f"/proc/{master}/task/{master}/children").read_text("ascii").split()
        for process in (master, *map(int, children)):
            resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    yield Disk(folder, (), lambda service: limit(service, 0), lambda service: limit(service, resource.RLIM_INFINITY))


@pytest.fixture(params=[small_disk, file_limit])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    with contextmanager(request.param)(folder) as made:
        yield made


@dataclass
class Embedded:
    """A service on the embedded database, whose model answers."""

    service: Service
    caller: Caller
    upstream: Upstream
    disk: Disk

    def fill(self) -> None:
        self.disk.fill(self.service)

    def free(self) -> None:
        self.disk.free(self.service)

    def refine_while_it_fills(self, key: str) -> requests.Response:
        """What the caller gets when the disk is full once the model has the draft."""
        self.upstream.hold()
        with ThreadPoolExecutor(1) as pool:
            try:
                asked = pool.submit(self.caller.refine, "a draft", Idempotency_Key=key)
                self.upstream.wait_for(1)
                self.fill()
            finally:
                self.upstream.release()
            return in_time(asked.result(BOUND))

    def statuses(self) -> list[str]:
        return [item["status"] for item in self.caller.get("/log-request").json()["items"]]


@contextmanager
def served(disk: Disk, upstream: Upstream, folder: Path, data: Path) -> Iterator[Embedded]:
    # Without limits, whose counters would be the first to find the disk full.
    unlimited = {"RATE_LIMIT": "none", "DAILY_TOKEN_BUDGET": ""}
    environ = settings(data, upstream, sqlite_url(disk.folder / "records.sqlite3"), **unlimited)
    upstream.script(fake.echo(lambda draft: f"better: {draft}"))
    with Service(environ, folder / "service.log", disk.under) as service:
        yield Embedded(service, Caller(service.url, environ, disk.under), upstream, disk)


def test_a_disk_that_is_full_before_the_call(disk: Disk, upstream: Upstream, tmp_path: Path) -> None:
    """What is to be recorded is refused, and no model asked; what is there is read; with space again all is well."""
    with served(disk, upstream, tmp_path, disk.folder) as embedded:
        caller = embedded.caller
        known = caller.refine("a draft").json()
        embedded.fill()
        report = {"prompt": "p", "response": "r"}
        for answer in (
            caller.refine("another draft"),
            caller.post("/generate", {"prompt": "p"}),
            caller.post("/log-request", report),
        ):
            assert_refused(answer)
        assert len(upstream.requests) == 1
        assert in_time(caller.read(known["id"])).json() == known
        assert embedded.statuses() == ["succeeded"]
        embedded.free()
        assert in_time(caller.refine("another draft")).status_code == 200
        assert in_time(caller.post("/log-request", report)).status_code == 201


def test_a_disk_that_is_full_with_the_outbox_on_it(disk: Disk, upstream: Upstream, tmp_path: Path) -> None:
    """Neither takes the completion: 503, the record is abandoned, and with space again a retry takes over."""
    with served(disk, upstream, tmp_path, disk.folder) as embedded:
        assert_refused(embedded.refine_while_it_fills("k"))
        assert len(upstream.requests) == 1
        assert embedded.caller.get("/health").status_code == 200
        embedded.free()
        until(lambda: in_time(embedded.caller.refine("a draft", Idempotency_Key="k")).status_code == 200)
        assert embedded.statuses() == ["succeeded", "abandoned"]
        assert len(upstream.requests) == 2


@pytest.mark.parametrize("disk", [small_disk], indirect=True)
def test_a_disk_that_is_full_with_the_outbox_elsewhere(disk: Disk, upstream: Upstream, tmp_path: Path) -> None:
    """With `DATA_DIR` on another disk the caller has the paid answer; with space again the record has it, unaided."""
    with served(disk, upstream, tmp_path, tmp_path) as embedded:
        answer = embedded.refine_while_it_fills("k")
        assert (answer.status_code, answer.json()["refined_prompt"]) == (200, "better: a draft"), answer.text
        assert (tmp_path / "outbox.sqlite3").exists()
        embedded.free()
        until(lambda: embedded.statuses() == ["succeeded"])
        assert embedded.caller.read(answer.json()["id"]).json() == answer.json()
        assert len(upstream.requests) == 1
