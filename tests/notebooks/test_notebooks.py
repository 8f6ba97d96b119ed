"""The saved notebooks: every number of the text is shown above it, cells and outputs are in order, solutions run."""

import ast
import base64
import io
import json
import re
import symtable
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from facelib.io.records import read_table
from facelib.settings import MODELS

FOLDER = MODELS.parent / "notebooks"
NOTEBOOKS = (
    "Face_Classification_ArcFace_Embeddings",
    "Face_Alignment_Hourglass_Network",
    "Face_Recognition_Pipeline",
)
NUMBER = re.compile(r"(?<![\w.])(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\w)")
FENCED = re.compile(r"```python\n(.*?)```", re.DOTALL)
# What a text names with a digit without claiming a quantity: formulas, code, addresses, years, and its own parts.
NO_CLAIMS = (
    r"```.*?```",
    r"\$\$.*?\$\$",
    r"\$[^$]*\$",
    r"`[^`]*`",
    r"\]\([^)]*\)",
    r"<[^>]*>",
    r"(?m)^#+ \d+(?:\.\d+)*\.?|^ *\d+\. |\[\d+\. ",
    r"(?i)(?:sections?|notebooks?|tasks?|exercises?|figures?|chapters?) \d[\d.]*(?:(?:, | and | to )\d[\d.]*)*",
    r"\b(?:19|20)\d\d\b",
)


def load(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"]


def source(cell):
    return "".join(cell["source"])


def output_texts(cell):
    """Everything that a cell shows as text, drawings included."""
    for output in cell.get("outputs", []):
        yield "".join(output.get("text", []))
        data = output.get("data", {})
        for kind in ("text/markdown", "text/plain"):
            yield "".join(data.get(kind, []))
        for kind in ("text/html", "image/svg+xml"):
            yield re.sub(r"<[^>]*>", " ", "".join(data.get(kind, [])))


def numbers(text):
    return {match.replace(",", "") for match in NUMBER.findall(text)}


def claims(text):
    """The quantities that a text states."""
    for pattern in NO_CLAIMS:
        text = re.sub(pattern, " ", text, flags=re.DOTALL)
    return numbers(text)


def unshown_numbers(cells):
    """(cell, number) for each number of a text that no output above it shows and no code above it or beside it sets."""
    shown, missing = set(), []
    for cell in cells:
        if cell["cell_type"] == "markdown":
            beside = {number for code in FENCED.findall(source(cell)) for number in numbers(code)}
            missing += [(cell["id"], number) for number in sorted(claims(source(cell)) - shown - beside)]
        else:
            shown |= numbers(source(cell)).union(*map(numbers, output_texts(cell)))
    return missing


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_number_of_the_text_is_shown_above_it(name):
    assert not unshown_numbers(load(name))


def test_a_number_from_nowhere_is_found():
    shown = {"cell_type": "code", "id": "a", "source": ["x = 112"], "outputs": [{"text": ["NME 2.53%, 1,200 faces"]}]}
    text = "In section 7 of 2016, $3x$ and `4`: 2.53 % of 1,200 faces of 112 pixels, not 2.5 %."
    assert unshown_numbers([shown, {"cell_type": "markdown", "id": "b", "source": [text]}]) == [("b", "2.5")]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_cells_are_in_order(name):
    """Run once from top to bottom, short cells, one heading each, more words than code."""
    cells = load(name)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    shown = [cell for cell in code if not cell["metadata"].get("jupyter", {}).get("source_hidden")]
    lengths = [len(cell["source"]) for cell in shown]
    assert max(lengths) <= 25 and np.median(lengths) <= 6
    texts = [source(cell) for cell in cells if cell["cell_type"] == "markdown"]
    assert not [text for text in texts if len(re.findall(r"^#+ ", re.sub(r"(?s)```.*?```", "", text), re.M)) > 1]
    words = sum(len(re.sub(r"(?s)```.*?```", "", text).split()) for text in texts)
    assert words > 9 * sum(lengths)
    assert not [cell["id"] for cell in cells if "execution" in cell["metadata"]]  # times of day, different in each run


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_outputs_are_clean(name):
    path = FOLDER / f"{name}.ipynb"
    outputs = [output for cell in load(name) for output in cell.get("outputs", [])]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert not [output["text"] for output in outputs if output.get("name") == "stderr"]
    texts = [text for cell in load(name) for text in output_texts(cell)]
    assert not [text for text in texts if re.search(r"(?<![\w/.])/(?:home|root|work|tmp|usr|Users)/", text)]
    assert path.stat().st_size < 10_000_000


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_links_to_files_lead_somewhere(name):
    texts = [source(cell) for cell in load(name) if cell["cell_type"] == "markdown"]
    texts = [re.sub(r"(?s)```.*?```|`[^`]*`", "", text) for text in texts]
    targets = {target for text in texts for target in re.findall(r"\]\(([^)\s]+)\)", text)}
    local = [target for target in targets if not re.match(r"https?:|attachment:|#", target)]
    assert not [target for target in local if not (FOLDER / target.split("#")[0]).exists()]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_picture_at_the_top_is_made_below(name):
    """It is what the cell "answer" shows. After a change: copy that output into the attachment of the first cell."""
    cells = {cell["id"]: cell for cell in load(name)}
    [picture] = cells["title"]["attachments"].values()
    [output] = [output["data"] for output in cells["answer"]["outputs"] if "image/jpeg" in output.get("data", {})]
    top, below = (decode("".join(data["image/jpeg"])) for data in (picture, output))
    assert top.shape == below.shape and top.shape[1] > 1200
    assert np.abs(top - below).mean() < 2


def decode(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"), np.float32)


def global_names(code):
    """Names of the module's scope that code needs, and names that it always sets there."""
    reads, sets = set(), set()
    for statement in ast.parse(code).body:
        table = symtable.symtable(ast.unparse(statement), "cell", "exec")
        own = {node.id for node in ast.walk(getattr(statement, "target", ast.Pass())) if isinstance(node, ast.Name)}
        used = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
        scopes = table.get_children()
        while scopes:
            scope = scopes.pop()
            used |= {symbol.get_name() for symbol in scope.get_symbols() if symbol.is_global()}
            scopes += scope.get_children()
        augmented = isinstance(statement, ast.AugAssign)
        reads |= (used | (own if augmented else set())) - sets - (set() if augmented else own)
        if not isinstance(statement, ast.If):
            sets |= {
                s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()
            }
    return reads, sets


def solutions_with_their_code(cells):
    """The solutions of all exercises, and before each the cells that define what it uses: (id, code)."""
    steps, wanted = [], set()
    for cell in reversed(cells):
        if cell["cell_type"] == "markdown":
            blocks = FENCED.findall(source(cell)) if "<summary>Solution" in source(cell) else []
            for code in reversed(blocks):
                reads, sets = global_names(code)
                wanted = (wanted - sets) | reads
                steps.append((cell["id"], code))
        elif not re.search(r"^\s*[!%]", source(cell), re.M):
            reads, sets = global_names(source(cell))
            if sets & wanted:
                wanted = (wanted - sets) | reads
                steps.append((cell["id"], source(cell)))
    return steps[::-1]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_solutions_run(name, monkeypatch):
    """With trainings of a few steps; their own assertions must hold."""
    monkeypatch.setenv("FACELIB_SIZE", "embedded")
    cells = load(name)
    steps = solutions_with_their_code(cells)
    exercises = sum(len(re.findall(r"\*\*Exercise \d", source(cell))) for cell in cells)
    assert exercises == len([step for step in steps if step[0].startswith("exercise-")]) >= 8
    namespace = {"sys": sys}
    for cell, code in steps:
        exec(compile(code, cell, "exec"), namespace)
        if cell == "settings":
            namespace.update(EPOCHS=1, COMPARED_EPOCHS=1, EPOCH_SIZE=32, SEEDS=(0,), CIRCLE_STEPS=60)
    plt.close("all")


def test_the_recorded_comparison_has_both_losses_for_each_seed():
    """So that notebook 1 can pair them."""
    runs = {(row["loss"], row["seed"]) for row in read_table("losses_on_orl.csv")}
    assert runs == {(loss, seed) for loss in ("softmax", "ArcFace") for seed in range(5)}
