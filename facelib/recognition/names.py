"""Names of people: one form for galleries, albums and archives, and folder names made of them."""

import re
import unicodedata

BLANKS = r"[\s\u200b\u2060\ufeff]+"  # white space, and what has no width
OUTER_BLANKS = re.compile(rf"^{BLANKS}|{BLANKS}$")
BIDI_OVERRIDES = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # make a text read as another one
JOINERS = "\u200c\u200d"  # zero width, part of the spelling in Persian, Hindi and other languages
# Device names of Windows, which open no folder there, whatever the case or the extension.
RESERVED_NAMES = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3]) *(\..*)?", re.IGNORECASE
)
UNNAMED = "Person"  # people without a name are called "Person 7"
LOW_QUALITY = "?"  # in place of a person: the face has a quality issue, or is none
NUMBERED = re.compile(rf"{UNNAMED} ([1-9][0-9]{{0,8}})")
RESERVED_CHARACTERS = '<>:"/\\|?*'


def normalise_name(name: str) -> str:
    """The form of a person's name in which it is stored and compared: Unicode NFC, without outer blanks.

    Raises:
        ValueError: nothing is left, or the name holds control characters, line breaks, or bytes that are no text.
    """
    normalised = OUTER_BLANKS.sub("", unicodedata.normalize("NFC", name))
    if not normalised:
        raise ValueError("a person needs a name")
    for character in normalised:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in BIDI_OVERRIDES:
            raise ValueError(
                f"the name {normalised!a} holds the control character U+{ord(character):04X}: give it without"
            )
    return normalised


def stored_name(name: str) -> str:
    """A name as a gallery's file has it: normalised, unless an older version stored one that is refused now."""
    try:
        return normalise_name(name)
    except ValueError:
        return name


def person_number(person: str) -> int | None:
    """7 for "Person 7"; None for every other name."""
    match = NUMBERED.fullmatch(person)
    return int(match[1]) if match else None


def is_named(person: str) -> bool:
    """Whether somebody has given the person a name."""
    return person not in ("", LOW_QUALITY) and person_number(person) is None


def natural_key(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """To sort names as people do: "Person 7" before "Person 10", whatever the case of the letters."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [_number_key(part) if part[0] in "0123456789" else (True, 0, part.casefold()) for part in parts], name


def _number_key(digits: str) -> tuple[bool, int, str]:
    """Numbers in order of their size, of any length, before all other text."""
    significant = digits.lstrip("0")
    return False, len(significant), significant


def safe_folder_name(name: str) -> str:
    """A name as that of a folder, on Linux, macOS and Windows: all scripts stay, with combining marks.

    What Windows reserves is avoided: characters become "_", dots and blanks at the ends are removed, and a device name
    such as "con" gets "_" in front. Two names may give one folder, or one too long: see `unique_names`.
    """
    normalised = unicodedata.normalize("NFC", name)
    folder = "".join(character if _is_safe(character) else "_" for character in normalised).strip(" .")
    if RESERVED_NAMES.fullmatch(folder):
        folder = f"_{folder}"
    return folder or "_"


def _is_safe(character: str) -> bool:
    printable = character.isprintable() or character in JOINERS or unicodedata.category(character) == "Zs"
    return printable and character not in RESERVED_CHARACTERS
