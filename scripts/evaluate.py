"""`make eval`: refine prompts on the configured engine, and say what can be said about the outcome without a person."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TextIO

import click

from refinery.opening import open_engine
from refinery.refiner import Refiner
from refinery.strategies import DEFAULT, load_strategies
from settings import Settings, SettingsError, load_settings

from .evaluation.drafts import Draft, read_drafts
from .evaluation.judge import Judge
from .evaluation.measure import Evaluation, Result
from .evaluation.table import summary, table
from .service import ROOT

OWN_DRAFTS = ROOT / "evals/drafts.ndjson"


@click.command()
@click.option("--strategy", default=DEFAULT, show_default=True, help="How to refine.")
@click.option("--model", help="The model that refines.  [default: OPENAI_MODEL]")
@click.option(
    "--judge-model", help="The model that judges, the same for all that are compared.  [default: OPENAI_MODEL]"
)
@click.option("--limit", type=click.IntRange(min=1), help="Take the first drafts only.")
@click.option(
    "--prompts",
    type=click.File(encoding="utf-8"),
    default=OWN_DRAFTS,
    help="NDJSON: `prompt`, perhaps `source` and `instructions`; - is standard input.  [default: our own]",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="NDJSON with everything, as it is completed; overwritten.  [default: eval.ndjson in DATA_DIR]",
)
@click.option("--concurrency", type=click.IntRange(1, 64), default=4, show_default=True, help="Drafts at a time.")
def main(
    strategy: str,
    model: str | None,
    judge_model: str | None,
    limit: int | None,
    prompts: TextIO,
    out: Path | None,
    concurrency: int,
) -> None:
    """Refine each prompt with the engine that the environment configures, and report the figures.

    Exit status: 0 when the run went through; 1 when every draft failed, or a prompt that would break a program was
    given out as good; 2 for wrong usage.
    """
    settings = _settings()
    drafts = _drafts(prompts)[:limit]
    evaluation = _evaluation(settings, strategy, model or settings.openai_model, judge_model or settings.openai_model)
    path = out or settings.data_dir / "eval.ndjson"
    engine = evaluation.refiner.engine
    asked = f"engine {engine.name} ({engine.model_for(evaluation.model)})"
    with _written(path) as file:
        results = _run(evaluation, drafts, file, concurrency, f"{len(drafts)} drafts, strategy {strategy}, {asked}")
    judged = evaluation.judge is not None
    click.echo("\n".join([*table(results, judged=judged), "", *summary(results, judged=judged)]))
    click.echo(f"Every prompt with its figures is in {path}.", err=True)
    raise SystemExit(exit_code(results))


def exit_code(results: Sequence[Result]) -> int:
    """1 where nothing was refined for want of an engine, or where the promise was broken; else 0."""
    return int(all(result.failure for result in results) or any(result.broken for result in results))


def _settings() -> Settings:
    try:
        return load_settings()
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


def _drafts(prompts: TextIO) -> list[Draft]:
    try:
        drafts = read_drafts(prompts)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--prompts") from None
    if not drafts:
        raise click.BadParameter("there is no draft in it", param_hint="--prompts")
    return drafts


def _evaluation(settings: Settings, strategy: str, model: str, judge_model: str) -> Evaluation:
    strategies = load_strategies()
    if strategy not in strategies:
        raise click.BadParameter(f"{strategy!r} is none of {', '.join(strategies)}", param_hint="--strategy")
    engine = open_engine(settings.openai_api_key, settings.openai_base_url)
    seconds = settings.request_deadline_seconds
    judge = None if settings.offline else Judge(engine, judge_model, seconds)
    return Evaluation(Refiner(engine, strategies), judge, strategy, model, seconds)


@contextmanager
def _written(path: Path) -> Iterator[TextIO]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The prompts in it are nobody else's, as in the service's own files.
        path.touch(mode=0o600)
        file = path.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", param_hint="--out") from None
    try:
        with file:
            yield file
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None


def _run(evaluation: Evaluation, drafts: Sequence[Draft], file: TextIO, concurrency: int, label: str) -> list[Result]:
    """The results in the drafts' order. Each is in the file before its thread begins with another draft."""
    lock = Lock()

    def run(number: int, draft: Draft) -> Result:
        result = evaluation.run(number, draft)
        with lock:
            file.write(json.dumps(result.as_dict(), ensure_ascii=False) + "\n")
            file.flush()
        return result

    with ThreadPoolExecutor(concurrency) as pool:
        futures = [pool.submit(run, number, draft) for number, draft in enumerate(drafts, start=1)]
        try:
            with click.progressbar(length=len(drafts), label=label, file=sys.stderr) as bar:
                for future in as_completed(futures):
                    future.result()
                    bar.update(1)
        finally:
            # After Ctrl-C or on a full disk nothing more is begun; what is under way is paid for, and waited for.
            pool.shutdown(wait=False, cancel_futures=True)
            under_way = sum(not future.done() for future in futures)
            if under_way:
                click.echo(f"Stopping: waiting for the {under_way} under way.", err=True)
    return [future.result() for future in futures]


if __name__ == "__main__":
    main()
