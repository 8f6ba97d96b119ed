"""The house keeps its shape: a core that users import, and wings that they can leave alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import facelib

PACKAGE = Path(facelib.__file__).parent
WINGS = ("datasets", "training", "evaluation", "archive")
# What is run, or turns arguments into files: no other wing asks for it.
ENTRY_POINTS = {"__main__", "run", "compare", "detectors", "speed", "documents", "archive"}


def imports_of(path: Path) -> set[str]:
    """Modules of the package that a file imports anywhere, in functions too; what is for type checkers does not count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules |= {node.module} | {name for name in names if name in MODULES}
    return {name for name in modules if name in MODULES}


MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
ARROWS = {name: imports_of(path) - {name} for name, path in MODULES.items()}


def wing_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in WINGS else "core"


def test_the_core_never_imports_a_wing():
    wrong = {name: to for name, targets in ARROWS.items() for to in targets if wing_of(name) == "core" != wing_of(to)}
    assert not wrong


def test_datasets_import_the_core_alone():
    wrong = {(name, to) for name, targets in ARROWS.items() for to in targets if wing_of(name) == "datasets"}
    assert not {(name, to) for name, to in wrong if wing_of(to) in ("training", "evaluation")}


def test_training_and_evaluation_leave_each_other_alone():
    for one, other in (("training", "evaluation"), ("evaluation", "training")):
        assert not {
            (n, to) for n, targets in ARROWS.items() if wing_of(n) == one for to in targets if wing_of(to) == other
        }


def test_nothing_is_imported_from_what_is_run():
    """A command may import a command's parts in its own wing only."""
    for name, targets in ARROWS.items():
        for to in targets:
            if to.split(".")[-1] in ENTRY_POINTS and wing_of(to) != "core":
                assert wing_of(name) == wing_of(to), f"{name} imports {to}"


def test_there_is_no_circle():
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for target in sorted(ARROWS[name]):
                visit(target, (*way, name))
            done.add(name)

    for name in ARROWS:
        visit(name, ())


def test_who_is_held_out_is_known_in_one_place():
    """Names of held-out splits are written in splits.py, and asked for by callers of its functions only."""
    for name, path in MODULES.items():
        constants = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        texts = {value for value in constants if isinstance(value, str) and "\n" not in value}
        if name != "facelib.datasets.splits":
            assert not {"excluded_people.txt", "same_people.txt"} & texts or name == "facelib.datasets.cleaning"
        # The set of open_val and open_test is read in one place.
        assert name == "facelib.datasets.splits" or "faces_unseen" not in texts


@pytest.mark.parametrize("command", ["facelib", "facelib.training"])
def test_help_answers_at_once(command):
    """Nothing heavy is imported before it is needed."""
    code = f"import runpy, sys\nsys.argv = ['x', '--help']\ntry: runpy.run_module('{command}', run_name='__main__')\n"
    code += "except SystemExit: assert not {'torch', 'numpy', 'cv2'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout
