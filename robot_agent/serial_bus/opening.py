"""Opening a serial port for this process alone, or saying why it cannot be had."""

from __future__ import annotations

import errno
import fcntl
import termios
from contextlib import suppress
from pathlib import Path

import serial

from protocol.errors import ConfigurationError, PortGoneError

_TAKEN = (errno.EAGAIN, errno.EBUSY)
_FORBIDDEN = (errno.EACCES, errno.EPERM)
_ABSENT = (errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EIO)


def open_alone(path: Path, baud: int) -> serial.Serial:
    """Open a port, 8N1, reads and writes that never wait.

    Raises:
        ConfigurationError: another process has it, it may not be opened, or is no serial port.
        PortGoneError: there is no such port now.
    """
    try:
        port = serial.Serial(str(path), baud, exclusive=True, timeout=0)
    except (OSError, termios.error) as error:
        raise _why_not(path, error) from error
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(f"{path}: {baud} baud: {error}") from error
    # Some adapters collect bytes for 16 ms unless told not to; others have no such setting.
    with suppress(ValueError, OSError):
        port.set_low_latency_mode(True)
    # Programs that do not ask for the lock are kept out as well.
    with suppress(OSError):
        fcntl.ioctl(port.fileno(), termios.TIOCEXCL)
    with suppress(termios.error):
        _keep_lines_at_closing(port.fileno())
    return port


def _keep_lines_at_closing(fd: int) -> None:
    """Have DTR stay as it is when the port is closed.

    Many boards restart when it rises: the guard, or the next agent, would make a gripper let go by
    opening the port. Drivers remember this until the device is pulled out, so that only the first
    opening is felt.
    """
    attributes = termios.tcgetattr(fd)
    attributes[2] &= ~termios.HUPCL
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


def _why_not(path: Path, error: Exception) -> ConfigurationError | PortGoneError:
    # pyserial says some errors in words only; the kernel's own is then the one behind it.
    cause = error.__context__ if isinstance(error.__context__, termios.error) else error
    number = cause.args[0] if cause.args else None
    if number in _TAKEN:
        return ConfigurationError(
            f"{path}: another process has this port: is another agent running on it?"
        )
    if number in _FORBIDDEN:
        return ConfigurationError(
            f"{path}: may not be opened by this user: add it to the group that owns the port, "
            "often `dialout`"
        )
    if number in _ABSENT:
        return PortGoneError(
            f"{path}: there is no such port: is the cable in, and the adapter's path right? "
            "`ls /dev/serial/by-id` lists those that are there"
        )
    return ConfigurationError(f"{path}: cannot be used as a serial port: {error}")
