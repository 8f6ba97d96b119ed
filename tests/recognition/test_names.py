"""Names of people: one form, and folders that every file system accepts."""

import unicodedata

import pytest

from facelib.recognition.names import natural_key, normalise_name, safe_folder_name


@pytest.mark.parametrize(
    ("name", "normalised"),
    [
        ("Zoe\u0308", "Zo\u00eb"),
        (" \u00a0\ufeffAnn Lee\u200b\n", "Ann Lee"),
        ("\u0905\u0928\u0941\u0937\u094d\u0915\u093e", "\u0905\u0928\u0941\u0937\u094d\u0915\u093e"),
        ("\u0645\u06cc\u200c\u0631\u0627", "\u0645\u06cc\u200c\u0631\u0627"),  # a joiner is a part of the spelling
        ("Rock 'n' Roll, 2019", "Rock 'n' Roll, 2019"),
        ("=1+1", "=1+1"),
    ],
)
def test_one_form_of_a_name(name, normalised):
    assert normalise_name(name) == normalised
    assert normalise_name(normalised) == normalised


@pytest.mark.parametrize(
    "name", ["", "  ", "\ufeff\u200b", "A\x00", "A\nB", "A\x1b[2J", "A\u2028B", "A\udcff", "A\u202eB"]
)
def test_names_that_are_refused(name):
    with pytest.raises(ValueError, match=r"control character|needs a name") as caught:
        normalise_name(name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("\u0905\u0928\u0941\u0937\u094d\u0915\u093e", "\u0905\u0928\u0941\u0937\u094d\u0915\u093e"),
        ("\u0e1b\u0e23\u0e35\u0e0a\u0e32", "\u0e1b\u0e23\u0e35\u0e0a\u0e32"),
        ("Zoe\u0308 O'Brien & Co.", "Zo\u00eb O'Brien & Co"),
        ("../../etc", "_.._etc"),
        ('a<b>:"c|?*\\d', "a_b___c____d"),
        (" . ", "_"),
        ("CON", "_CON"),
        ("nul .tar.gz", "_nul .tar.gz"),
        ("Lpt\u00b9", "_Lpt\u00b9"),
        ("Console", "Console"),
        ("A\x00\u202eB", "A__B"),
        ("\udcff", "_"),
    ],
)
def test_folder_names(name, folder, tmp_path):
    assert safe_folder_name(name) == folder
    (tmp_path / folder).mkdir()
    assert [unicodedata.normalize("NFC", path.name) for path in tmp_path.iterdir()] == [folder]


def test_names_are_sorted_as_people_count():
    names = [
        "Person 10",
        "Person 7",
        "ann",
        "Bob",
        "Person 2 b",
        "Person 2",
        "7",
        "Person 0" + 5000 * "9",
        "\u0662",
        "",
    ]
    expected = [
        "",
        "7",
        "ann",
        "Bob",
        "Person 2",
        "Person 2 b",
        "Person 7",
        "Person 10",
        "Person 0" + 5000 * "9",
        "\u0662",
    ]
    assert sorted(names, key=natural_key) == expected
