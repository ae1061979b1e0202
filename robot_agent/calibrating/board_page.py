"""A marker board as a file to print, at its true size."""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from protocol.errors import ConfigurationError
from robot_agent.calibrating.marker_board import MarkerBoard

POINTS_PER_M = 72 / 0.0254
PAGE_M = (0.210, 0.297)
"""A4; it fits on a letter page, too, when printed at actual size."""
MARGIN_M = 0.015
SQUARE_PX = 240
"""Pixels of a square: a whole number for each of a marker's 6 x 6 cells."""


def write_board(board: MarkerBoard, path: Path) -> str:
    """Write the board as .pdf (a page at true size) or .png (to be printed at the size told).

    Returns:
        What to do with the file, in words.

    Raises:
        ConfigurationError: another suffix, a board larger than a page, or it cannot be written.
    """
    width_m, height_m = board.size_m
    size = f"{width_m * 1e3:g} x {height_m * 1e3:g} mm"
    drawing = board.drawing(SQUARE_PX)
    suffix = path.suffix.lower()
    if suffix == ".pdf":
        content = _pdf(drawing, board)
    elif suffix == ".png":
        content = cv2.imencode(".png", _with_white_border(drawing))[1].tobytes()
    else:
        raise ConfigurationError(f"{path}: a board is written as .pdf or .png")
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from error
    return (
        f"{path}: print at actual size (100 %) and measure: the pattern must be {size}, "
        f"its squares {board.square_m * 1e3:g} mm; if not, say what they are with --square-mm. "
        "Glue it flat onto something stiff."
    )


def _with_white_border(drawing: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A marker at the edge is found only with white around it."""
    return np.pad(drawing, SQUARE_PX // 4, constant_values=255)


def _pdf(drawing: NDArray[np.uint8], board: MarkerBoard) -> bytes:
    """Return one A4 page with the drawing as a picture in its middle and a line of text below."""
    width_m, height_m = board.size_m
    if width_m > PAGE_M[0] - 2 * MARGIN_M or height_m > PAGE_M[1] - 4 * MARGIN_M:
        raise ConfigurationError(
            f"marker board: {width_m * 1e3:g} x {height_m * 1e3:g} mm do not fit on an A4 page; "
            "use smaller squares, or a .png"
        )
    width, height, page_width, page_height = (
        value * POINTS_PER_M for value in (width_m, height_m, *PAGE_M)
    )
    left, bottom = (page_width - width) / 2, (page_height - height) / 2
    text = (
        f"{board.columns} x {board.rows} squares of {board.square_m * 1e3:g} mm: the pattern is "
        f"{width_m * 1e3:g} mm wide. Print at actual size, measure, glue flat. This side is below."
    )
    page = (
        f"q {width:.4f} 0 0 {height:.4f} {left:.4f} {bottom:.4f} cm /Board Do Q "
        f"BT /F 8 Tf {MARGIN_M * POINTS_PER_M:.2f} {bottom - 28:.2f} Td ({text}) Tj ET"
    ).encode("ascii")
    picture = zlib.compress(drawing.tobytes())
    rows, columns = drawing.shape
    return _pdf_file(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %.4f %.4f] /Contents 4 0 R /Resources "
            b"<< /XObject << /Board 5 0 R >> /Font << /F 6 0 R >> >> >>"
            % (page_width, page_height),
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(page), page),
            b"<< /Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceGray "
            b"/BitsPerComponent 8 /Interpolate false /Filter /FlateDecode /Length %d >>\n"
            b"stream\n%s\nendstream" % (columns, rows, len(picture), picture),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        ]
    )


def _pdf_file(objects: list[bytes]) -> bytes:
    """Return a PDF file of numbered objects; the first is its catalogue."""
    content = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    count = len(objects) + 1
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return content + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\n"
        b"startxref\n%d\n%%%%EOF\n" % (count, table, count, len(content))
    )
