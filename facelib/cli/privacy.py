"""Who may read what a command writes."""

import functools
from collections.abc import Callable
from typing import Any

import click

from facelib.io.files import private_files


def shared_option(function: Callable) -> Callable:
    """A decorator that adds --shared; without it the command writes files that nobody else can read."""

    @click.option(
        "--shared", is_flag=True, show_default=False, help="Let others read the results, as your umask has it."
    )
    @functools.wraps(function)
    def run(*, shared: bool, **values: Any) -> int:
        with private_files(not shared):
            return function(**values)

    return run
