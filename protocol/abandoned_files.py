"""What a process that was killed while it wrote has left: removed by whoever writes there next."""

from __future__ import annotations

import logging
import re
import stat
import time
from pathlib import Path

logger = logging.getLogger(__name__)

_OLD_S = 3600.0
"""No write takes so long: a younger file may be one that another process is writing."""


def remove_abandoned(folder: Path, names: re.Pattern[str]) -> None:
    """Remove a folder's files of such names that nobody has written to for an hour.

    Args:
        folder: only itself is looked at, not what is below it; it may be missing.
        names: that unfinished files have, whole, and no others.
    """
    try:
        found = [path for path in folder.iterdir() if names.fullmatch(path.name)]
    except OSError:
        return  # whoever writes there says it better
    for path in found:
        try:
            state = path.lstat()
            if stat.S_ISREG(state.st_mode) and time.time() - state.st_mtime > _OLD_S:
                path.unlink()
                logger.info("%s was never finished, and is removed", path)
        except FileNotFoundError:
            continue  # finished, or removed by another process
        except OSError as error:
            logger.warning("%s was never finished, and stays: %s", path, error.strerror)
