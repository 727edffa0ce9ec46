"""A secret of AWS Secrets Manager, as JSON: made, or changed on its way from standard input to standard output.

`python -m scripts.secret new` asks for what klamala cannot make itself, `set NAME` for one setting; `add`, `sign` and
`drop` are the steps in which `JWT_SECRETS` is replaced. docs/rotation.md shows when each is due.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from getpass import GetPassWarning, getpass
from itertools import count

from secret_settings import SecretError, settings_in
from settings import Settings, SettingsError, in_a_secret, load_settings

ASKED_FOR = ("DATABASE_URL", "OPENAI_API_KEY")
# What a function of serverless.yml has besides its secret.
_ON_LAMBDA = {
    "AWS_LAMBDA_FUNCTION_NAME": "klamala",
    "OUTBOX_QUEUE_URL": "https://sqs/outbox",
    "JOBS_QUEUE_URL": "https://sqs/jobs",
}
# Where the secret has none, its readers have one from elsewhere; without any, a file would be made.
_DATABASE_ELSEWHERE = "mongodb://elsewhere"

Pairs = Mapping[str, str]


class Refused(Exception):
    """There is nothing that could be stored. The message says why, without what is in the secret."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.secret", description=__doc__.partition("\n")[0])
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("new", help=f"ask for {' and '.join(ASKED_FOR)}, and make JWT_SECRETS")
    for name, (_, text) in _STEPS.items():
        actions.add_parser(name, help=text)
    setting = actions.add_parser("set", help="ask on the terminal for one setting, and change it")
    setting.add_argument("name", metavar="NAME", choices=sorted(in_a_secret() - {"JWT_SECRETS"}))
    arguments = parser.parse_args()
    try:
        values = new() if arguments.action == "new" else _filtered(arguments)
    except (Refused, SettingsError) as error:
        raise SystemExit(f"klamala: {error}") from None
    except SecretError as error:
        raise SystemExit(f"klamala: standard input holds a secret {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    # In ASCII, so that no program behind a pipe can read another encoding into it.
    print(json.dumps(values))


def _filtered(arguments: argparse.Namespace) -> dict[str, str]:
    text = sys.stdin.buffer.read()
    if arguments.action == "set":
        return replaced(text, arguments.name, _typed(arguments.name))
    return changed(text, _STEPS[arguments.action][0])


def new() -> dict[str, str]:
    """The secret of a stage on AWS Lambda that is new.

    Raises: `Refused`, `SettingsError`.
    """
    asked = _typed if sys.stdin.isatty() else _next_line
    given = {name: asked(name) for name in ASKED_FOR}
    values = {**given, "JWT_SECRETS": _as_text(added({}))}
    load_settings({**values, **_ON_LAMBDA})
    return values


def changed(text: bytes, step: Callable[[Pairs], Pairs]) -> dict[str, str]:
    """The settings in a secret, with a step taken by its `JWT_SECRETS` and the others as they are, in order.

    Raises: `Refused`, `SecretError`, `SettingsError`.
    """
    values = _read(text)
    result = {**values, "JWT_SECRETS": _as_text(step(_checked(values).jwt_secrets))}
    _checked(result)
    return result


def replaced(text: bytes, name: str, value: str) -> dict[str, str]:
    """The settings in a secret, one of them with another value, in its place or at the end.

    Raises: `Refused`, `SecretError`, `SettingsError`.
    """
    values = {**_read(text), name: value}
    _checked(values)
    return values


def added(pairs: Pairs) -> Pairs:
    day = datetime.now(UTC).date().isoformat()
    kid = next(kid for number in count(1) if (kid := day if number == 1 else f"{day}.{number}") not in pairs)
    return {**pairs, kid: secrets.token_urlsafe(48)}


def signing(pairs: Pairs) -> Pairs:
    _refuse_one(pairs)
    last = list(pairs)[-1]
    return {last: pairs[last], **pairs}


def dropped(pairs: Pairs) -> Pairs:
    _refuse_one(pairs)
    first = next(iter(pairs))
    return {first: pairs[first]}


_STEPS: Mapping[str, tuple[Callable[[Pairs], Pairs], str]] = {
    "add": (added, "append a new secret to JWT_SECRETS: it verifies"),
    "sign": (signing, "put the last secret in front: it signs"),
    "drop": (dropped, "take all secrets away but the first"),
}


def _read(text: bytes) -> dict[str, str]:
    values = settings_in(text, in_a_secret())
    if not values.get("JWT_SECRETS", "").strip():
        raise Refused("standard input holds a secret without JWT_SECRETS")
    return values


def _refuse_one(pairs: Pairs) -> None:
    if len(pairs) == 1:
        raise Refused("JWT_SECRETS: holds one secret only")


def _checked(values: Mapping[str, str]) -> Settings:
    return load_settings({**values, "DATABASE_URL": values.get("DATABASE_URL", "").strip() or _DATABASE_ELSEWHERE})


def _as_text(pairs: Pairs) -> str:
    return ",".join(f"{kid}:{secret}" for kid, secret in pairs.items())


def _typed(name: str) -> str:
    """What a person types on the terminal, which does not show it."""
    try:
        with warnings.catch_warnings(action="error", category=GetPassWarning):
            return _given(name, getpass(f"{name}: "))
    except GetPassWarning:
        raise Refused(f"{name}: there is no terminal to ask on") from None
    except EOFError:
        return _given(name, "")


def _next_line(name: str) -> str:
    # What is not UTF-8 is found with the other faults.
    return _given(name, sys.stdin.buffer.readline().decode("utf-8", "surrogateescape"))


def _given(name: str, answer: str) -> str:
    if not answer.strip():
        raise Refused(f"{name}: is not given")
    return answer.strip()


if __name__ == "__main__":
    main()
