"""The package keeps its layout: imports run from research to inference, never back, and no module grows large."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import facelib

PACKAGE = Path(facelib.__file__).parent
RESEARCH = ("datasets", "training", "evaluation", "archive")
# Research part -> the research parts that it may import.
ALLOWED = {"datasets": set(), "training": {"datasets"}, "evaluation": {"datasets", "archive"}, "archive": set()}
MAX_LINES = 310
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def imports_of(path: Path, in_functions: bool = True) -> set[str]:
    """Modules of the package that a file imports; imports for type checkers do not count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = [ast.Pass()]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not in_functions:
            node.body = [ast.Pass()]
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            modules |= names or {node.module}
    return modules & MODULES.keys()


IMPORTS = {name: imports_of(path) - {name} for name, path in MODULES.items()}
# A face imports what shows it in a notebook inside `_repr_html_`; otherwise types is below everything else.
IMPORTS["facelib.types"] -= {"facelib.render"}


def part_of(module: str) -> str:
    """The sub-package of a module, or the module itself at the top of the package."""
    return module.split(".")[1] if "." in module else "facelib"


def test_inference_imports_no_research():
    """But a command may, inside its function."""
    for name, path in MODULES.items():
        if part_of(name) not in RESEARCH:
            targets = imports_of(path, in_functions=part_of(name) != "cli")
            assert not {to for to in targets if part_of(to) in RESEARCH}, name


def test_research_parts_import_only_what_the_design_allows():
    for name, targets in IMPORTS.items():
        if (part := part_of(name)) in RESEARCH:
            assert {part_of(to) for to in targets} & set(RESEARCH) <= ALLOWED[part] | {part}, name


def test_video_takes_its_networks_and_imports_no_pipeline_of_photos():
    for name, targets in IMPORTS.items():
        if part_of(name) == "video":
            assert "facelib.pipeline" not in targets, name


def test_settings_import_nothing_of_ours():
    assert not IMPORTS["facelib.settings"]


def test_subpackages_import_nothing():
    for name, path in MODULES.items():
        if path.name == "__init__.py" and name != "facelib":
            assert not IMPORTS[name], name


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """A cycle of a directed graph, or an empty list."""
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name not in done:
            for target in sorted(graph[name]):
                if found := visit(target, (*way, name)):
                    return found
            done.add(name)
        return []

    return next((found for name in graph if (found := visit(name, ()))), [])


def test_modules_import_in_no_cycle():
    assert not cycle(IMPORTS)


def test_subpackages_import_in_no_cycle():
    graph: dict[str, set[str]] = {}
    for name, targets in IMPORTS.items():
        graph.setdefault(part_of(name), set()).update({part_of(to) for to in targets} - {part_of(name), "facelib"})
    assert not cycle({name: targets & graph.keys() for name, targets in graph.items()})


def test_no_module_is_large():
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert not {name: length for name, length in lengths.items() if length > MAX_LINES}


def test_held_out_people_are_known_in_one_module():
    """Names of held-out splits are written in splits.py, and asked for through its functions only."""
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
    assert "usage:" in done.stdout.lower()
