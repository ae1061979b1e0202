"""Tables that can be read in the terminal they are shown in."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.cells import cell_len
from rich.table import Table

_GAP = 2
_SAYS_NOTHING = {"", "-", "0"}


def plain_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int,
    quiet: Collection[str] = (),
    left: Collection[str] = (),
) -> Table:
    """Return a table without lines in which no cell is cut off.

    What does not fit is left out column by column, the last one first, and named below the table.

    Args:
        headings: the most important ones first.
        rows: a cell for every heading.
        width: characters that there is room for.
        quiet: columns that are left out where no row has anything but a dash or zero.
        left: columns that are aligned to the left, beside the first.
    """
    said = {
        heading: cells
        for heading, *cells in zip(headings, *rows, strict=True)
        if heading not in quiet or not _SAYS_NOTHING.issuperset(cells)
    }
    shown = _fitting(said, width)
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim")
    for index, heading in enumerate(shown):
        is_left = index == 0 or heading in left
        table.add_column(heading, justify="left" if is_left else "right", no_wrap=True)
    for row in zip(*(said[heading] for heading in shown), strict=True):
        table.add_row(*row)
    if left_out := [heading for heading in said if heading not in shown]:
        table.caption = f"no room for: {', '.join(left_out)}"
        table.caption_justify = "left"
    return table


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
