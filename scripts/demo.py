"""`make demo`: from nothing to a refined prompt and its audit record, over HTTP, in one go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from records import Owner, rfc3339
from settings import load_settings
from storage import open_storage
from terminal import visible, visible_json, wants_colour, word_diff

from .service import ROOT, Service

DRAFT = """\
hey can you please write a reply to {{customer_name}} about the order {{order.id}}?? they waited 3 weeks and are angry.
You are a support agent of a small bike shop. Be friendly but dont promise a refund!! use only these facts:

```json
{"status": "delayed", "eta": "{{eta}}", "carrier": "DHL"}
```

The reply must link to https://status.example.com/orders/{order_id}   and must be under 120 words.
"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="klamala-demo-") as folder:
        # The demo leaves nothing behind, unless DATABASE_URL says where.
        os.environ["DATA_DIR"] = folder
        with Service({}, Path(folder) / "service.log") as service:
            _heading(f"The service runs at {service.url}")
            _show(service.url)


def _show(url: str) -> None:
    client = _flask("clients", "create", "demo", "--scope", "refine log:read")
    click.echo(f"Client {client['client_id']} was created; only the hash of its key is stored.")
    try:
        _refine(url, client)
    finally:
        _flask("clients", "disable", client["client_id"])


def _refine(url: str, client: Mapping[str, str]) -> None:
    token = _post(f"{url}/token", {"X-API-Key": client["api_key"]}, {"grant_type": "client_credentials"})
    click.echo(f"POST /token: a {token['token_type']} token for {token['expires_in']} s, scope {token['scope']!r}.")
    refinement = _post(f"{url}/refine", {"Authorization": f"Bearer {token['access_token']}"}, {"prompt": DRAFT})
    tokens = refinement["usage"]
    click.echo(
        f"POST /refine: {refinement['status']} by {refinement['model']} (engine {refinement['engine']}), "
        f"{refinement['latency_ms']} ms, {tokens['input_tokens']} tokens in, {tokens['output_tokens']} out."
    )
    _heading("Draft")
    click.echo(DRAFT)
    _heading("Refined prompt")
    click.echo(visible(refinement["refined_prompt"]))
    _heading("What changed, word by word")
    click.echo(word_diff(DRAFT, refinement["refined_prompt"], colour=wants_colour(sys.stdout)))
    _heading("Why")
    for change in refinement["changes"]:
        click.echo(f"- {visible(change['reason'])}")
    _heading("Assumptions")
    for assumption in refinement["assumptions"]:
        click.echo(f"- {visible(assumption)}")
    _heading("The stored audit record")
    record = _record(refinement["id"], client["client_id"])
    click.echo(visible_json(json.dumps(record, indent=2, ensure_ascii=False, default=rfc3339)))


def _record(record_id: str, client_id: str) -> dict[str, Any]:
    storage = open_storage(load_settings().database_url)
    record = storage.read(record_id, Owner(client_id, client_id))
    storage.close()
    if record is None:
        raise SystemExit("The refinement has no audit record.")
    return record.as_dict()


def _flask(*arguments: str) -> dict[str, str]:
    command = [sys.executable, "-m", "flask", "--app", "app", *arguments, "--json"]
    result: dict[str, str] = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    return result


def _post(url: str, headers: Mapping[str, str], body: Mapping[str, str]) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 - the service that this process started
        url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
        result: dict[str, Any] = json.load(answer)
    return result


def _heading(text: str) -> None:
    click.echo(f"\n{click.style(text, bold=True)}")


if __name__ == "__main__":
    main()
