"""The command line's entry point: the commands under one name, and errors turned into messages and exit codes."""

import signal
import traceback
from typing import Any

import click

from actiondiff import ActionDiffError, __version__
from actiondiff.commands.answering import BUG, EPILOG, INTERRUPTED, fail, note, tell_programs
from actiondiff.commands.demo import demo, doctor
from actiondiff.commands.evaluate import evaluate, predict
from actiondiff.commands.extract import extract
from actiondiff.commands.fit import fit
from actiondiff.commands.manifest import manifest
from actiondiff.commands.report import report
from actiondiff.commands.reproduce import reproduce
from actiondiff.commands.store import store
from actiondiff.commands.sweep import sweep
from actiondiff.commands.transfer import transfer


class Commands(click.Group):
    """The top group: turns errors that are meant for people into one message and an exit code."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember whether a program asked, before anything can be wrong with the rest."""
        if "--json" in args:
            ctx.obj = "json"
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except (ActionDiffError, OSError) as error:
            fail(ctx, error)
        except KeyboardInterrupt:
            note("Interrupted. What was whole is kept: extract and sweep go on from there, fit with --resume.")
            ctx.exit(INTERRUPTED)
        except click.ClickException as error:
            tell_programs(ctx, error, error.format_message())
            raise
        except (click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            traceback.print_exc()
            fail(ctx, error, BUG)


@click.group(cls=Commands, epilog=EPILOG)
@click.version_option(__version__)
def cli() -> None:
    """Frozen video-diffusion features for action recognition in domains never trained on.

    \b
    A folder of clips (clips/LABEL/clip.mp4 or clips/DOMAIN/LABEL/clip.mp4) to a trained head:
      actiondiff manifest scan clips
      actiondiff extract --layer 9 --t 20
      actiondiff fit --head transformer
    """


for command in (manifest, extract, fit, evaluate, predict, sweep, transfer, report, reproduce, store, demo, doctor):
    cli.add_command(command)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point of the ``actiondiff`` command."""
    signal.signal(signal.SIGTERM, _interrupt)
    cli()
