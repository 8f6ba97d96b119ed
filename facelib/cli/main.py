"""The application `facelib`: its sub-commands, its exit codes, and how it ends when something stops it.

`python -m facelib` is the same. Where the first argument is no sub-command, it is a photo for `detect`.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from itertools import takewhile
from typing import TextIO

import click
from click.shell_completion import shell_complete

from facelib import __version__
from facelib.cli.album_command import album
from facelib.cli.blur import blur
from facelib.cli.calibrate import calibrate
from facelib.cli.compare import compare
from facelib.cli.console import Console, ExitCode
from facelib.cli.detect import detect
from facelib.cli.export import export
from facelib.cli.find import find
from facelib.cli.forget import forget
from facelib.cli.gallery_commands import backup, enrol, identify, people, remove
from facelib.cli.info import info
from facelib.cli.options import CONTEXT
from facelib.cli.video import video
from facelib.settings import SPIN_COUNT

NAME = "facelib"
COMPLETION = "_FACELIB_COMPLETE"  # the environment variable by which a shell asks for completions
HELP_OPTIONS = ("--help", "-h", "--version")
HELP = """Find, compare, recognise and hide faces in photos and clips.

`facelib PHOTO...` is short for `facelib detect PHOTO...`. A folder that has the name of a command is given as
./album. `facelib COMMAND --help` explains a command.

\b
Every command takes
  --json   for programs: answers on standard output and errors, {"error": ...}, on standard error as JSON
  --quiet  no progress bar and no notices

\b
Exit codes of all commands:
  0    yes, or done
  1    no, or some photos could not be read
  2    error: wrong arguments, or nothing could be done
  3    unsure
  130  interrupted

\b
Shell completion:
  bash  eval "$(_FACELIB_COMPLETE=bash_source facelib)"
  zsh   eval "$(_FACELIB_COMPLETE=zsh_source facelib)"
  fish  _FACELIB_COMPLETE=fish_source facelib | source
"""


class Application(click.Group):
    """The group of all commands, in which `detect` need not be named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Check the arguments that all commands share, and add the command where none is named."""
        if not ctx.resilient_parsing:  # as a shell does that completes an argument
            _refuse_empty(args, ctx)
        shared = list(takewhile(lambda argument: argument in ("--json", "--quiet"), args))
        rest = args[len(shared) :]
        if rest and rest[0] in self.commands:
            args = [rest[0], *shared, *rest[1:]]
        elif args and args[0] not in HELP_OPTIONS and not ctx.resilient_parsing:
            if rest and rest[0].isidentifier() and not os.path.lexists(rest[0]):
                names = ", ".join(self.commands)
                raise click.UsageError(f"{rest[0]}: no such command, and no such photo. Commands: {names}", ctx)
            args = ["detect", *args]
        return super().parse_args(ctx, args)


def _refuse_empty(arguments: list[str], context: click.Context) -> None:
    """Raise UsageError for an argument, or a value of an option, that is empty or blank."""
    for number, argument in enumerate(arguments, 1):
        value = argument.partition("=")[2] if argument.startswith("--") and "=" in argument else argument
        if not value.strip():
            raise click.UsageError(f"argument {number} is empty: is a shell variable unset?", context)


@click.group(NAME, cls=Application, help=HELP, context_settings=CONTEXT)
@click.version_option(__version__, prog_name=NAME)
def application() -> None:
    """The text is `HELP`."""


for _command in (
    detect,
    compare,
    enrol,
    identify,
    remove,
    people,
    backup,
    album,
    find,
    video,
    blur,
    calibrate,
    forget,
    export,
    info,
):
    application.add_command(_command)


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Handle TERM and a closed terminal like Ctrl-C, so that results are closed properly."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        numbers = []
    # A signal that is ignored stays ignored: `nohup` relies on it.
    ignored = (signal.SIG_IGN, None)
    before = {number: signal.signal(number, interrupt) for number in numbers if signal.getsignal(number) not in ignored}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _LogNotices(logging.Handler):
    """Prints what the library logs as notices."""

    def __init__(self, console: Console):
        super().__init__(logging.WARNING)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        self.console.notice(record.getMessage())


@contextlib.contextmanager
def log_as_notices(console: Console) -> Iterator[None]:
    """Print warnings that the library logs; the logger is left as it was."""
    logger, handler = logging.getLogger("facelib"), _LogNotices(console)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class TolerantStream:
    """A stream that drops text without an error once the reader of a pipe has left, as `| head` does."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with self._tolerate():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._tolerate():
            self.stream.flush()

    @contextlib.contextmanager
    def _tolerate(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


def _invoke(arguments: list[str]) -> int:
    """Parse the arguments and run the command; its exit code."""
    with application.make_context(NAME, list(arguments)) as context:
        return int(application.invoke(context) or 0)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code, see `ExitCode`; errors are printed.

    Args:
        arguments: without the name of the program; None: those of the process.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(json="--json" in arguments, quiet="--quiet" in arguments)
    if not arguments:
        click.echo(application.get_help(click.Context(application, info_name=NAME)), file=sys.stderr)
        return int(ExitCode.ERROR)
    try:
        with signals_interrupt(), log_as_notices(console):
            return _invoke(arguments)
    except click.exceptions.Exit as end:  # --help and --version
        return end.exit_code
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx and not console.json:
            click.echo(error.ctx.get_usage(), file=sys.stderr)
        console.error(error.format_message())
    except KeyError as error:
        console.error(str(error.args[0]) if error.args else "KeyError")
    # OSError also of what is printed: the disk behind it is full, or gone.
    except (OSError, ValueError, RuntimeError, TypeError, ImportError) as error:
        console.error(str(error))
    except KeyboardInterrupt:
        console.failure("interrupted", "interrupted; finished work is kept: run the same command again to resume")
        return int(ExitCode.INTERRUPTED)
    return int(ExitCode.ERROR)


def run() -> int:
    """The entry point of the process: `main` with streams that tolerate what terminals and pipes do."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a console that lacks a letter of a name still gets the rest
    # None where a service or a closed terminal left no stream.
    sys.stdout, sys.stderr = (stream and TolerantStream(stream) for stream in (sys.stdout, sys.stderr))
    if instruction := os.environ.get(COMPLETION):
        return shell_complete(application, {}, NAME, COMPLETION, instruction)
    return main()
