"""How commands answer: text for people on stderr, one JSON object on stdout, an exit code."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

DONE, SOME_FAILED, BAD_INPUT, BUG, INTERRUPTED = 0, 1, 2, 70, 130
EPILOG = (
    "Exit codes: 0 done, 1 done but something failed (it is listed), 2 bad input or usage, 70 a bug (with its "
    "traceback), 130 interrupted."
)

_SMALLER_BATCH = "try a smaller --batch-size"
_MEMORY_REMEDIES = {
    "extract": "try a smaller --size or --window",
    "fit": _SMALLER_BATCH,
    "sweep": _SMALLER_BATCH,
    "transfer": _SMALLER_BATCH,
}
_OTHER_MEMORY_REMEDY = "end other programs on the device, or try --device cpu"


def fail(ctx: click.Context, error: Exception, code: int = BAD_INPUT) -> None:
    """Print an error as one message and leave."""
    notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
    remedy = ""
    if "OutOfMemory" in type(error).__name__:
        remedy = f"\n  Out of memory: {_MEMORY_REMEDIES.get(ctx.invoked_subcommand or '', _OTHER_MEMORY_REMEDY)}."
    click.echo(f"Error: {error}{notes}{remedy}", err=True)
    tell_programs(ctx, error, str(error))
    ctx.exit(code)


def tell_programs(ctx: click.Context, error: Exception, message: str) -> None:
    """One JSON object on stdout, if a program asked."""
    if ctx.find_root().obj == "json":
        click.echo(json.dumps({"error": {"type": type(error).__name__, "message": message}}))


def remember_json(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    """Callback of ``--json``: :func:`finish` asks for it."""
    if value:
        ctx.find_root().obj = "json"
    return value


def finish(result: dict[str, Any], text: str, code: int = DONE) -> None:
    """Print a result for people, and for programs if ``--json`` was given, and leave."""
    ctx = click.get_current_context()
    click.echo(text, err=True)
    if ctx.find_root().obj == "json":
        click.echo(json.dumps(result, ensure_ascii=False))
    ctx.exit(code)


def note(text: str) -> None:
    """Tell people something on the way."""
    click.echo(text, err=True)


def free_folder(folder: Path) -> Path:
    """The folder itself, or the first of folder-2, folder-3 ... that is not there."""
    number, free = 2, folder
    while free.exists():
        free, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return free


def progress_bar(unit: str) -> Callable[..., None]:
    """A progress bar on stderr as a function of (done, total); it appears with the first call, not before an error."""
    from tqdm import tqdm

    bar: tqdm | None = None

    def show(done: int, total: int, *_: Any) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=total, unit=unit, file=sys.stderr, mininterval=0.5 if sys.stderr.isatty() else 30.0)
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return show
