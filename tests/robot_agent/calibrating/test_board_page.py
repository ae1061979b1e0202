"""The file to print: found again by the detector, and of its true size on the page."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from protocol.errors import ConfigurationError
from robot_agent.calibrating.board_page import write_board
from robot_agent.calibrating.marker_board import MarkerBoard


def corners_found(board: MarkerBoard, grey: np.ndarray) -> int:
    smaller = cv2.resize(grey, None, fx=0.2, fy=0.2, interpolation=cv2.INTER_AREA)
    return len(board.find(np.repeat(smaller[:, :, None], 3, axis=2)))


@pytest.mark.parametrize("board", [MarkerBoard(), MarkerBoard(columns=7, rows=5, square_m=0.025)])
def test_a_printed_picture_is_found_again_corner_by_corner(tmp_path: Path, board: MarkerBoard):
    said = write_board(board, tmp_path / "board.png")
    picture = cv2.imread(str(tmp_path / "board.png"), cv2.IMREAD_GRAYSCALE)
    assert corners_found(board, picture) == (board.columns - 1) * (board.rows - 1)
    assert f"{board.size_m[0] * 1e3:g} x {board.size_m[1] * 1e3:g} mm" in said


def test_a_page_carries_the_same_picture_at_its_true_size(tmp_path: Path):
    board = MarkerBoard(columns=7, rows=5, square_m=0.025)
    write_board(board, tmp_path / "board.pdf")
    content = (tmp_path / "board.pdf").read_bytes()
    width, height, left, bottom = map(
        float, re.search(rb"q ([\d.]+) 0 0 ([\d.]+) ([\d.]+) ([\d.]+) cm", content).groups()
    )
    assert (width * 25.4 / 72, height * 25.4 / 72) == pytest.approx((175.0, 125.0), abs=0.01)
    assert min(left, bottom) > 20
    start = re.search(rb"/Width (\d+) /Height (\d+).*?/Length (\d+) >>\nstream\n", content, re.S)
    columns, rows, length = map(int, start.groups())
    pixels = zlib.decompress(content[start.end() : start.end() + length])
    drawing = np.frombuffer(pixels, np.uint8).reshape(rows, columns)
    assert corners_found(board, np.pad(drawing, 100, constant_values=255)) == 24


def test_every_object_of_the_page_is_where_its_table_says(tmp_path: Path):
    write_board(MarkerBoard(), tmp_path / "board.pdf")
    content = (tmp_path / "board.pdf").read_bytes()
    table = int(re.search(rb"startxref\n(\d+)\n", content)[1])
    assert content[table : table + 4] == b"xref"
    for number, offset in enumerate(re.findall(rb"(\d{10}) 00000 n ", content), start=1):
        assert content[int(offset) :].startswith(b"%d 0 obj\n" % number)


@pytest.mark.parametrize(
    ("options", "name", "words"),
    [
        ({}, "board.jpg", "as .pdf or .png"),
        ({}, "no/board.pdf", "cannot be written: No such file"),
        ({"square_m": 0.06}, "board.pdf", "do not fit on an A4 page"),
    ],
)
def test_what_cannot_be_printed_is_refused(tmp_path: Path, options: dict, name: str, words: str):
    with pytest.raises(ConfigurationError, match=words):
        write_board(MarkerBoard(**options), tmp_path / name)


@pytest.mark.parametrize("options", [{"columns": 2}, {"rows": 13}, {"square_m": 0.001}])
def test_a_board_that_cannot_be_made_is_refused(options: dict):
    with pytest.raises(ConfigurationError, match="marker board"):
        MarkerBoard(**options)
