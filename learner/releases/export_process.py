"""Exports a network's graphs in a process of its own, while training goes on.

It has the same priority as training: the first release waits for it, and beside a busy fleet on two
cores a lower one would leave it nothing for minutes.

As a command, ``python -m learner.releases.export_process NETWORK HEIGHT_PX WIDTH_PX`` writes the
graphs to its standard output. What is exported follows from the architecture alone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from protocol.errors import TransientError

if TYPE_CHECKING:
    from learner.releases.exported_graph import NetworkGraphs

_ROOT = Path(__file__).resolve().parents[2]


class ExportProcess:
    """One export under way."""

    def __init__(self, network: str, *, height_px: int, width_px: int) -> None:
        """Start it.

        Raises:
            OSError: there is no process or no temporary file to be had.
        """
        # Without a name: nobody else can write to them, and they go with their last user.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", __name__, network, str(height_px), str(width_px)],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._errors,
        )

    @property
    def is_over(self) -> bool:
        """Whether it has ended, well or not."""
        return self._process.poll() is not None

    def graphs(self) -> NetworkGraphs:
        """Wait until it has ended; return the graphs.

        Raises:
            TransientError: it failed or was killed.
        """
        # Not sooner, so that training starts without it.
        from learner.releases.exported_graph import NetworkGraphs

        status = self._process.wait()
        self._output.seek(0)
        try:
            return NetworkGraphs.unpacked(self._output.read())
        except msgspec.DecodeError as error:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
            raise TransientError(
                f"the process that exports the graphs ended with status {status}: "
                f"{said[-1] if said else 'it said nothing'}"
            ) from error

    def close(self) -> None:
        """End it if it is still under way."""
        self._process.kill()
        self._process.wait()
        self._output.close()
        self._errors.close()


def main(network: str, height_px: int, width_px: int) -> None:
    """Export, and write the graphs to standard output."""
    import torch

    from learner.networks import build_network
    from learner.releases.graph_export import export_network

    torch.set_num_threads(1)
    torch.manual_seed(0)  # the same bytes every time
    with redirect_stdout(sys.stderr):
        built = build_network(network, height_px=height_px, width_px=width_px).eval()
        graphs = export_network(built.requires_grad_(requires_grad=False))
    sys.stdout.buffer.write(graphs.packed())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
