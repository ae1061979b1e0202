"""Pictures of a scene through OpenGL, where a context can be had."""

from __future__ import annotations

import ctypes
import logging
import warnings
from functools import cache

import mujoco
import numpy as np

from protocol.episode import ImageArray
from protocol.errors import ConfigurationError
from robot_agent.robots.simulated.objects import COLLISION_ONLY_GROUP
from robot_agent.robots.simulated.scene import CAMERA, Scene

logger = logging.getLogger(__name__)

_GL_RENDERER = 0x1F01
_SOFTWARE = ("llvmpipe", "softpipe", "swrast", "swr", "software")


class GlRenderer:
    """MuJoCo's own renderer; bound to one model, hence made anew when the scene is."""

    def __init__(self, width_px: int, height_px: int) -> None:
        self._size = (height_px, width_px)
        self._model: mujoco.MjModel | None = None
        self._renderer: mujoco.Renderer | None = None
        self._view = mujoco.MjvOption()
        self._view.geomgroup[COLLISION_ONLY_GROUP] = 0

    def render(self, scene: Scene) -> ImageArray:
        """Return uint8[H, W, 3], RGB, of the scene as it is now.

        Raises:
            ConfigurationError: no OpenGL context can be made on this machine.
        """
        if self._renderer is None or self._model is not scene.model:
            self.close()
            self._renderer = _open_renderer(scene.model, *self._size)
            self._model = scene.model
        self._renderer.update_scene(scene.data, camera=CAMERA, scene_option=self._view)
        return np.asarray(self._renderer.render(), np.uint8)

    def close(self) -> None:
        """Give back the OpenGL context."""
        if self._renderer is not None:
            self._renderer.close()
        self._renderer = self._model = None


@cache
def gl_device() -> str | None:
    """Return what OpenGL calls its renderer on this machine, or None without OpenGL.

    MuJoCo looks for a display unless the environment says ``MUJOCO_GL=egl``.
    """
    with warnings.catch_warnings():
        # Where there is no display GLFW warns on stderr at every call; the log line is enough.
        warnings.simplefilter("ignore")
        return _probe()


def _probe() -> str | None:
    try:
        context = mujoco.GLContext(16, 16)
    except Exception as error:  # noqa: BLE001 - each of the three back ends fails in its own way
        logger.info("no OpenGL context", extra={"reason": str(error)})
        return None
    try:
        context.make_current()
        return _device_string()
    finally:
        context.free()


def is_hardware(device: str | None) -> bool:
    """True if ``device`` names a graphics card: software OpenGL is slower than casting rays."""
    return device is not None and not any(word in device.lower() for word in _SOFTWARE)


def _device_string() -> str:
    for library in ("libOpenGL.so.0", "libGL.so.1", "libOSMesa.so.8"):
        try:
            get_string = ctypes.CDLL(library).glGetString
        except (OSError, AttributeError):
            continue
        get_string.restype = ctypes.c_char_p
        get_string.argtypes = [ctypes.c_uint]
        name = get_string(_GL_RENDERER)
        if name:
            return str(name.decode(errors="replace"))
    return "software (unknown)"


def _open_renderer(model: mujoco.MjModel, height_px: int, width_px: int) -> mujoco.Renderer:
    try:
        return mujoco.Renderer(model, height_px, width_px)
    except Exception as error:
        raise ConfigurationError(
            f"renderer 'gl': no OpenGL context on this machine ({error}); use renderer = 'auto'"
        ) from error
