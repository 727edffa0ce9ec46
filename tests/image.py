"""The image without a container engine: the Dockerfile's own instructions, carried out on a copy-on-write view of this
machine's disk.

What stands in for the base images is this machine's Debian, with its Node.js, and with the Python of the image's
version as `python`. The rest is the Dockerfile's, parsed by BuildKit's parser: files are chosen by `.dockerignore`,
`RUN` runs as it is written, at the paths that are written, and `CMD` runs as process 1 of its own process namespace, as
the image's user, without capabilities, on a disk that cannot be written to. It needs root, mount and process
namespaces, and overlayfs.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Self

import dockerfile
from docker.utils import exclude_paths

from tests.artifacts import NO_RUNTIME, ROOT, RUNTIME

BOUND = 300.0
_BASE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAMESPACE = ("unshare", "--mount", "--propagation", "private", "sh", "-c")
_TOOLS = ("unshare", "nsenter", "chroot", "setpriv", "mount")
# A stage's disk: this machine's below, its own changes above. /root, where pyenv is, may be walked through.
_STAGE = """
set -e
mkdir -p "$1/upper" "$1/work" "$1/root"
mount -t overlay stage -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --rbind /dev "$1/root/dev"
mount --rbind /proc "$1/root/proc"
chmod a+x "$1/root/root"
ln -sf "$2" "$1/root/usr/local/bin/python"
rm -rf "$1/root/srv" "$1/root/data" "$1/root/opt/venv" "$1/root/console"
mkdir "$1/root/srv"
"""
# What `--read-only --tmpfs /tmp` and a volume for the data do.
_SEALED = """
set -e
mkdir -p "$2"
chmod --reference="$1$3" "$2"
chown --reference="$1$3" "$2"
mount --bind "$1" "$1"
mount --bind "$2" "$1$3"
mount -t tmpfs -o mode=1777 tmp "$1/tmp"
mount --rbind /dev "$1/dev"
mount --rbind /proc "$1/proc"
mount -o remount,bind,ro "$1"
"""
_ENTER = ("--reuid", "{user}", "--regid", "{group}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")


@dataclass
class Stage:
    """What the Dockerfile has said of one stage so far."""

    root: Path
    environ: dict[str, str] = field(default_factory=lambda: {"PATH": _BASE_PATH})
    folder: str = "/"
    user: str = "0:0"
    command: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    stop_signal: str = "SIGTERM"


def instructions() -> tuple[dockerfile.Command, ...]:
    """The Dockerfile's, each with its flags and words."""
    parsed: tuple[dockerfile.Command, ...] = dockerfile.parse_file(str(ROOT / "Dockerfile"))
    return parsed


def context() -> set[str]:
    """The files of the checkout that a build can copy."""
    patterns = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    # The builder reads these two itself, wherever they are excluded.
    chosen = set(exclude_paths(str(ROOT), patterns)) - {"Dockerfile", ".dockerignore"}
    return {path for path in chosen if (ROOT / path).is_file()}


class Image:
    """A built image. Use it as a context manager: its disk goes with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stages: dict[str, Stage] = {}

    def __enter__(self) -> Self:
        # Ends with this process, whatever happens: it waits for the end of its input.
        self._holder = subprocess.Popen(
            [*_NAMESPACE, "echo ready; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._holder.stdout
        assert self._holder.stdout.readline() == b"ready\n"
        with ExitStack() as stack:
            stack.callback(self.close)
            for instruction in instructions():
                self._carry_out(instruction)
            self._seal()
            # Built: it is closed by who has it from here on.
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._holder.communicate(timeout=BOUND)

    @property
    def last(self) -> Stage:
        """The stage that is the image."""
        return list(self._stages.values())[-1]

    def run(self, command: Sequence[str], **environ: str) -> subprocess.CompletedProcess[str]:
        """A command in the image, as its user: what `docker exec` does."""
        return subprocess.run(
            self.entered(command),
            env=self.last.environ | environ,
            capture_output=True,
            text=True,
            timeout=BOUND,
            check=False,
        )

    def entered(self, command: Sequence[str], before: Sequence[str] = ()) -> list[str]:
        """This machine's command for one in the image, behind the words of `before`."""
        stage = self.last
        user, group = stage.user.split(":")
        entering = [word.format(user=user, group=group) for word in _ENTER]
        inside = ["setpriv", *entering, "--no-new-privs", *_in_folder(stage.folder), *command]
        return [*self._enter(), *before, program("chroot"), str(stage.root), *inside]

    def _enter(self) -> list[str]:
        return [program("nsenter"), f"--mount=/proc/{self._holder.pid}/ns/mnt"]

    def _script(self, script: str, *arguments: str) -> None:
        command = [*self._enter(), program("sh"), "-c", script, "sh", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False)
        assert done.returncode == 0, done.stderr

    def _carry_out(self, instruction: dockerfile.Command) -> None:
        steps: dict[str, Callable[[dockerfile.Command], object]] = {
            "FROM": self._from,
            "COPY": self._copy,
            "RUN": self._run,
            "ENV": lambda each: self.last.environ.update(self._pairs(each.value)),
            "LABEL": lambda each: self.last.labels.update(self._pairs(each.value)),
            "WORKDIR": self._work_in,
            "USER": lambda each: setattr(self.last, "user", each.value[0]),
            "VOLUME": lambda each: setattr(self.last, "volumes", each.value),
            "EXPOSE": lambda _: None,
            "STOPSIGNAL": lambda each: setattr(self.last, "stop_signal", each.value[0]),
            "HEALTHCHECK": lambda each: setattr(self.last, "check", each.value[1:]),
            "CMD": lambda each: setattr(self.last, "command", each.value),
        }
        steps[instruction.cmd.upper()](instruction)

    def _from(self, instruction: dockerfile.Command) -> None:
        name = instruction.value[2]
        folder = self._folder / name
        self._script(_STAGE, str(folder), str(RUNTIME))
        self._stages[name] = Stage(folder / "root")

    def _work_in(self, instruction: dockerfile.Command) -> None:
        self.last.folder = instruction.value[0]
        self._script('mkdir -p "$1"', f"{self.last.root}{self.last.folder}")

    def _copy(self, instruction: dockerfile.Command) -> None:
        source, target = instruction.value
        from_stage = [flag.removeprefix("--from=") for flag in instruction.flags]
        into = f"{self.last.root}{os.path.join(self.last.folder, target)}"  # noqa: PTH118 - paths of the image
        if from_stage:
            self._script('mkdir -p "$2" && cp -a "$1/." "$2"', f"{self._stages[from_stage[0]].root}{source}", into)
            return
        sent = self._folder / "context"
        for path in context():
            (sent / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, sent / path)
        place = 'if [ -d "$1" ]; then mkdir -p "$2" && cp -a "$1/." "$2"; else cp -a "$1" "$2"; fi'
        self._script(place, str(sent / source), into)

    def _run(self, instruction: dockerfile.Command) -> None:
        assert not instruction.flags
        stage = self.last
        # What this machine's pip and npm need to reach their indexes.
        theirs = ("PIP_", "SSL_", "NPM_CONFIG_", "NODE_EXTRA_")
        given = {name: each for name, each in os.environ.items() if name.upper().startswith(theirs) or "_proxy" in name}
        command = [*self._enter(), program("chroot"), str(stage.root), *_in_folder(stage.folder), "sh", "-c"]
        done = subprocess.run(
            [*command, instruction.value[0]],
            env=given | stage.environ,
            capture_output=True,
            text=True,
            timeout=BOUND,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _pairs(self, words: Sequence[str]) -> dict[str, str]:
        pairs = {}
        for name, value in zip(words[::2], words[1::2], strict=True):
            (plain,) = shlex.split(value) or [""]
            pairs[name] = re.sub(r"\$(\w+)", lambda found: self.last.environ[found[1]], plain)
        return pairs

    def _seal(self) -> None:
        (volume,) = self.last.volumes
        self._script(_SEALED, str(self.last.root), str(self._folder / "volume"), volume)


def _in_folder(folder: str) -> list[str]:
    return ["sh", "-c", 'cd "$0" && exec "$@"', folder]


def program(name: str) -> str:
    """Where a program of this machine is."""
    found = shutil.which(name)
    assert found, name
    return found


@cache
def not_here() -> str | None:
    """Why nothing of this can be done here, if so."""
    if RUNTIME is None:
        return NO_RUNTIME
    if missing := [name for name in _TOOLS if not shutil.which(name)]:
        return f"no {missing[0]} here"
    if not shutil.which("npm", path=_BASE_PATH):
        return "no Node.js here, outside the checkout, which a base image has"
    if subprocess.run([RUNTIME, "-m", "pip", "--version"], capture_output=True, check=False).returncode:
        return f"{RUNTIME} has no pip, which a base image has"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([*_NAMESPACE, _STAGE, "sh", folder, RUNTIME], capture_output=True, text=True, check=False)
    return f"no overlay of the disk can be mounted here: {done.stderr.strip()}" if done.returncode else None
