"""Words in a table: which cells are words, how long they may be, and how they are shown."""

from unicodedata import category

LONGEST_LABEL = 200  # characters of a name or a class
LONGEST_SHOWN = 60
MOST_SHOWN = 20  # labels


def is_text(cell: str) -> bool:
    """Whether a cell is a word: neither a number nor empty."""
    try:
        float(cell or "nan")
    except ValueError:
        return True
    return False


def shown(text: str, longest: int = LONGEST_SHOWN) -> str:
    """A text on one line, of readable length, with nothing that moves a cursor: what cannot be printed
    (an escape, a line end, a change of direction) has its escaped form."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: longest + 1])
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def printable(text: str) -> str:
    """A text on its lines, with nothing that moves a cursor otherwise."""

    def one(c: str) -> str:
        is_shown = c in "\n\t" or c.isprintable() or category(c) == "Zs"  # a space of any width
        return c if is_shown else c.encode("unicode_escape").decode()

    return "".join(map(one, text))


def readable(text: str) -> str:
    """The same of a text that may be longer, such as one in a sentence on a file."""
    return shown(text, LONGEST_LABEL)


def listed(labels: list[str]) -> str:
    """The first of them, and how many more there are."""
    more = len(labels) - MOST_SHOWN
    return ", ".join(labels[:MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
