"""Tables that can be read in the terminal they are shown in."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.cells import cell_len
from rich.text import Text

_GAP = 2
_SAYS_NOTHING = {"", "-", "0"}


def plain_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int,
    quiet: Collection[str] = (),
    left: Collection[str] = (),
    has_total: bool = False,
) -> Text:
    """Return a table without lines in which no cell is cut off.

    What does not fit is left out column by column, the last one first, and named below the table.
    A table of rich's would take seconds for a thousand rows.

    Args:
        headings: the most important ones first.
        rows: a cell for every heading.
        width: characters that there is room for.
        quiet: columns that are left out where no row has anything but a dash or zero.
        left: columns that are aligned to the left, beside the first.
        has_total: the last row is of all others together.
    """
    said = {
        heading: cells
        for heading, *cells in zip(headings, *rows, strict=True)
        if heading not in quiet or not _SAYS_NOTHING.issuperset(cells)
    }
    shown = _fitting(said, width)
    columns = [
        _aligned([heading, *said[heading]], to_left=index == 0 or heading in left)
        for index, heading in enumerate(shown)
    ]
    first, *lines = ((" " * _GAP).join(cells).rstrip() for cells in zip(*columns, strict=True))
    styles = ["" for _ in lines]
    if has_total:
        styles[-1] = "bold"
    parts = [(first, "dim"), *zip(lines, styles, strict=True)]
    if left_out := [heading for heading in said if heading not in shown]:
        parts.append((f"no room for: {', '.join(left_out)}", "dim italic"))
    return Text("\n", no_wrap=True, overflow="ignore").join(Text(*part) for part in parts)


def _aligned(cells: list[str], *, to_left: bool) -> list[str]:
    """Fill cells with spaces up to the widest of them."""
    width = max(map(cell_len, cells))
    gaps = [" " * (width - cell_len(cell)) for cell in cells]
    if to_left:
        return [cell + gap for cell, gap in zip(cells, gaps, strict=True)]
    return [gap + cell for cell, gap in zip(cells, gaps, strict=True)]


def _fitting(columns: dict[str, list[str]], width: int) -> list[str]:
    """Return the headings from the left for which there is room; the first one always."""
    shown: list[str] = []
    used = -_GAP
    for heading, cells in columns.items():
        used += _GAP + max(map(cell_len, [heading, *cells]))
        if shown and used > width:
            break
        shown.append(heading)
    return shown
