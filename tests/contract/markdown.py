"""Reads what the tests need of a Markdown page: sections, tables and code blocks."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

_HEADING = re.compile(r"^(#{2,3}) (.+)$")


class Section(NamedTuple):
    """What stands below one heading, up to the next of the same or a higher level."""

    title: str
    lines: list[str]

    def tables(self) -> list[list[list[str]]]:
        """Its tables as rows of cells; the first row is the heading."""
        found: list[list[list[str]]] = []
        before = ""
        for line in self.lines:
            if line.startswith("|"):
                if not before.startswith("|"):
                    found.append([])
                cells = [cell.strip() for cell in line.strip("|").split("|")]
                if not all(set(cell) <= {"-", ":"} for cell in cells):
                    found[-1].append(cells)
            before = line
        return found

    def blocks(self) -> list[str]:
        """Its fenced code blocks."""
        return re.findall(r"^```\w*\n(.*?)\n```$", "\n".join(self.lines), re.DOTALL | re.MULTILINE)


def sections(page: str, level: int) -> dict[str, Section]:
    """The sections of a page at the root of the project, by title.

    Args:
        page: The file.
        level: 2 for the chapters, 3 for what is in them.
    """
    found: dict[str, Section] = {}
    current: Section | None = None
    fenced = False
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
        fenced ^= line.startswith("```")
        match = None if fenced else _HEADING.match(line)
        if match and len(match[1]) <= level:
            current = None
            if len(match[1]) == level:
                assert match[2] not in found, f"{page} has two sections {match[2]!r}"
                current = found[match[2]] = Section(match[2], [])
        elif current is not None:
            current.lines.append(line)
    return found


def words(cell: str) -> list[str]:
    """What stands in backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)
