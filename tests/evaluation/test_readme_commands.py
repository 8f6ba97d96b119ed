"""The commands on the pages exist with their options, and every table of figures stands beside one."""

import argparse
import contextlib
import re
import shlex
import sys
import tomllib
from importlib import import_module
from importlib.util import find_spec

import click
import pytest

from facelib.cli.main import application
from facelib.evaluation.readme.__main__ import MARKED, PAGES, ROOT
from facelib.evaluation.run import Evaluation
from facelib.settings import MODELS
from facelib.training.compare import COMPARISONS

FILES = sorted(
    [*ROOT.glob("*.md"), MODELS / "README.md", ROOT / "data/README.md", *(ROOT / "facelib").rglob("README.md")]
)
FILES.remove(ROOT / "CHANGELOG.md")  # names commands of their time
MODULE = re.compile(r"(?:python|torchrun \S+) -m (facelib[\w.]*) ?(.*)")
PLACEHOLDERS = {"NAME": "lfw", "COMMAND": "info"}
NO_FIGURES = ("badge", "clone")
COMMAND = re.compile(r"`python -m facelib\.\w|^python -m facelib\.\w", flags=re.MULTILINE)


def commands(text: str) -> list[str]:
    """The commands of a page: inline code, and lines of code blocks, without comments."""
    blocks = re.findall(r"```(?:bash)?\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    parts = [part.strip() for line in (*lines, *inline) for part in line.split("&&")]
    return [part for part in parts if MODULE.match(part) or part.startswith("facelib ")]


def words(text: str) -> list[str]:
    """Arguments, also of a synopsis: without the brackets around what may be left out."""
    found = [word if "=[" in word else word.strip("[]") for word in shlex.split(text)]
    return [PLACEHOLDERS.get(word, word) for word in found if word not in ("...", "")]


class Parsed(Exception):
    """Raised in place of running a command, with what was parsed."""


def parse(monkeypatch, module: str, arguments: list[str]) -> argparse.Namespace:
    """Arguments as the command's own parser understands them; nothing is run."""

    def stop(parser, given=None, namespace=None, parse=argparse.ArgumentParser.parse_args):
        raise Parsed(parse(parser, given, namespace))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    package = find_spec(module).submodule_search_locations
    with pytest.raises(Parsed) as parsed:
        import_module(f"{module}.__main__" if package else module).main()
    return parsed.value.args[0]


def check(monkeypatch, command: str) -> None:
    """A command is understood, and the weights, recipes and comparisons that it names exist."""
    matched = MODULE.match(command)
    if not matched or matched[1] == "facelib":
        name, *arguments = words(matched[2] if matched else command.partition(" ")[2]) or ["info"]
        if name.startswith(("PHOTO", "FOLDER", "--")):
            return  # photos: short for detect
        # A command may be named with one of its options alone; `--help` exits.
        with contextlib.suppress(click.MissingParameter, click.exceptions.Exit):
            application.commands[name].make_context(name, arguments)
        return
    module, arguments = matched[1], words(matched[2])
    if not arguments:  # its name alone
        assert find_spec(module)
        return
    with monkeypatch.context() as patch:
        options = parse(patch, module, arguments)
    if module == "facelib.evaluation" and arguments[:1] != ["report"] and options.models == MODELS:
        assert set(options.names) <= {*Evaluation(MODELS).names}
    if module == "facelib.training" and "RECIPE" not in arguments:
        assert (ROOT / options.config).is_file()
    if module == "facelib.training.compare":
        assert set(options.names) <= {*tomllib.loads(COMPARISONS.read_text()), PLACEHOLDERS["NAME"]}


@pytest.mark.parametrize("page", FILES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_are_understood(page, monkeypatch, capsys):
    for command in dict.fromkeys(commands(page.read_text())):
        try:
            check(monkeypatch, command)
        except (SystemExit, KeyError, click.ClickException, AssertionError) as error:
            pytest.fail(f"{command}: {error} {capsys.readouterr().err}")


def test_commands_are_found_and_wrong_ones_fail(monkeypatch, capsys):
    page = "`facelib info`, `python -m facelib.datasets NAME [PATH ...]`\n```bash\ncd x && python -m facelib.archive A  # B\n```"
    assert commands(page) == [
        "python -m facelib.archive A",
        "facelib info",
        "python -m facelib.datasets NAME [PATH ...]",
    ]
    for wrong in ("facelib.evaluation --sets lwf", "facelib.evaluation.speed nothing", "facelib.datasets lfww"):
        with pytest.raises(SystemExit):
            check(monkeypatch, f"python -m {wrong}")
    with pytest.raises(AssertionError):
        check(monkeypatch, "python -m facelib.evaluation defualt")
    with pytest.raises(click.ClickException):
        check(monkeypatch, "facelib detect photo.jpg --outt DIR")
    assert sum(len(commands(page.read_text())) for page in FILES) > 70


def test_converters_of_the_data_page_exist(monkeypatch):
    rows = re.findall(r"^\| (`.+?`) \|", (ROOT / "data/README.md").read_text(), flags=re.MULTILINE)
    named = [words(command) for row in rows for command in re.findall(r"`([^`]+)`", row)]
    assert len(named) > 10
    for command in named:
        with monkeypatch.context() as patch:
            parse(patch, "facelib.datasets", command if len(command) > 1 else [*command, "PATH"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_every_table_stands_beside_its_command(page):
    """Or beside a link to the section of models/README.md that names it."""
    sections = re.split(r"^(?=#+ )", page.read_text(), flags=re.MULTILINE)
    cards = (MODELS / "README.md").read_text()
    for section in sections:
        tables = [match[1] for match in MARKED.finditer(section) if match[1] not in NO_FIGURES]
        if not tables:
            continue
        linked = [name.replace("-", " ") for name in re.findall(r"models/README\.md#([\w-]+)\)", section)]
        elsewhere = [
            part for part in re.split(r"^#+ ", cards, flags=re.MULTILINE) if part.lower().startswith(tuple(linked))
        ]
        beside = MARKED.sub("", section)
        assert any(COMMAND.search(text) for text in (beside, *elsewhere)), tables
