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
