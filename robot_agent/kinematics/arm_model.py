"""ArmModel: one arm's chain of joints, from its foot to the middle between the opened finger tips.

A model is a URDF file of our own (see ``models/``) whose first link is ``foot`` and whose last is
``grasp_point``: z from the finger tips to the palm, y the direction in which the fingers close. So
the tool is vertical where the grasp point's z is the base frame's z, and what is left is a yaw.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from xml.etree import ElementTree

import msgspec
import numpy as np
import optik
from numpy.typing import NDArray

from protocol.episode import GripperPose
from protocol.errors import ConfigurationError, RobotError
from protocol.messages import Name

FOOT, GRASP_POINT = "foot", "grasp_point"
FEWEST_JOINTS = 5
"""A vertical tool at any x, y, z and yaw takes as many."""
FARTHEST_MOUNT_M = 3.0
"""Of the foot from the base frame's origin, along each axis; further off something is in other
units."""
MOST_TURN_RAD = 2 * math.pi

_MODELS = Path(__file__).parent / "models"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mount:
    """Where the arm's foot stands in the base frame, upright."""

    x_m: float = 0.0
    y_m: float = 0.0
    z_m: float = 0.0
    yaw_rad: float = 0.0
    """Where the arm's forward points; 0 is along the base frame's x."""

    def __post_init__(self) -> None:
        for name, limit in (
            ("x_m", FARTHEST_MOUNT_M),
            ("y_m", FARTHEST_MOUNT_M),
            ("z_m", FARTHEST_MOUNT_M),
            ("yaw_rad", MOST_TURN_RAD),
        ):
            value = getattr(self, name)
            if not abs(value) <= limit:
                raise ConfigurationError(
                    f"mount.{name} {value} is not between {-limit:.4g} and {limit:.4g}"
                )

    def matrix(self) -> NDArray[np.float64]:
        """Return float64[4, 4]: from the foot's frame to the base frame."""
        return upright(self.x_m, self.y_m, self.z_m, self.yaw_rad)


@dataclass(frozen=True, kw_only=True, slots=True)
class Joint:
    """One joint as its model describes it; all turn, none slides."""

    name: str
    lower_rad: float
    upper_rad: float
    max_speed_rad_s: float
    """Without load, by the motor's data sheet."""


class ArmModel:
    """The kinematics of one arm where it stands. Not for use from several threads at a time."""

    def __init__(
        self, *, name: str, joints: tuple[Joint, ...], chain: optik.Robot, mount: Mount
    ) -> None:
        """Take what ``load`` has read."""
        self.name = name
        self.joints = joints
        self.mount = mount
        self.lower_rad = np.array([joint.lower_rad for joint in joints])
        """float64[N]."""
        self.upper_rad = np.array([joint.upper_rad for joint in joints])
        """float64[N]."""
        self.chain = chain
        """The library's model of the chain, in the foot's frame."""
        self._mount = mount.matrix()

    @classmethod
    def load(
        cls,
        arm: str | Path,
        *,
        mount: Mount | None = None,
        limits_rad: NDArray[np.float64] | None = None,
    ) -> Self:
        """Read a model.

        Args:
            arm: one of ``known_arms()``, or the path of a model file.
            mount: where the arm stands; in the base frame's origin by default.
            limits_rad: float64[N, 2], lowest and highest angle of each joint as measured on this
                arm; they narrow the model's own and never widen them.

        Raises:
            ConfigurationError: there is no such model, it cannot be used, or a joint has no room
                within both limits.
        """
        path = Path(arm) if str(arm).endswith(".urdf") else _MODELS / f"{arm}.urdf"
        if not path.is_file():
            known = ", ".join(known_arms())
            raise ConfigurationError(f"arm {str(arm)!r}: no such model; known arms: {known}")
        try:
            model = ElementTree.parse(path).getroot()  # noqa: S314 - ours, or the robot owner's own file
            turning = _turning_joints(model)
            if limits_rad is not None:
                _narrow(turning, limits_rad)
            joints = tuple(_joint(one) for one in turning)
            _check_names([path.stem, *(joint.name for joint in joints)])
        except (ElementTree.ParseError, KeyError, ValueError) as error:
            raise ConfigurationError(f"arm model {path}: {error}") from error
        if len(joints) < FEWEST_JOINTS:
            raise ConfigurationError(
                f"arm model {path}: {len(joints)} turning joints between {FOOT} and {GRASP_POINT}; "
                f"a vertical tool of any yaw needs {FEWEST_JOINTS} or more"
            )
        return cls(name=path.stem, joints=joints, chain=_chain(model), mount=mount or Mount())

    @property
    def max_speeds_rad_s(self) -> NDArray[np.float64]:
        """float64[N]: of each joint without load."""
        return np.array([joint.max_speed_rad_s for joint in self.joints])

    def transform(self, joints_rad: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return float64[4, 4]: from the grasp point's frame to the base frame.

        Raises:
            RobotError: not as many joints as the arm has, or one that is not finite.
        """
        if np.shape(joints_rad) != (len(self.joints),) or not np.isfinite(joints_rad).all():
            # The library would panic, which no `except Exception` catches.
            raise RobotError(
                f"arm {self.name}: joints {joints_rad}: {len(self.joints)} finite angles expected"
            )
        return np.asarray(self._mount @ np.array(self.chain.fk(joints_rad)), np.float64)

    def forward(self, joints_rad: NDArray[np.float64]) -> GripperPose:
        """Return the pose at joint angles float64[N]; its yaw is the one of the fingers' way.

        Says nothing of the tool's tilt: see ``tilt_rad``.
        """
        return pose_of(self.transform(joints_rad))

    def tilt_rad(self, joints_rad: NDArray[np.float64]) -> float:
        """Return by how much the tool leans from the vertical, 0 to pi."""
        return tilt_of(self.transform(joints_rad))

    def target(self, pose: GripperPose) -> NDArray[np.float64]:
        """Return float64[4, 4]: a vertical tool at ``pose``, in the foot's frame."""
        return self.in_foot_frame(upright(pose.x_m, pose.y_m, pose.z_m, pose.yaw_rad))

    def in_foot_frame(self, frame: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a frame of the base frame, float64[4, 4], in the foot's."""
        return np.asarray(np.linalg.solve(self._mount, frame), np.float64)


def known_arms() -> list[str]:
    """Return the names of the models that come with the agent."""
    return sorted(path.stem for path in _MODELS.glob("*.urdf"))


def upright(x_m: float, y_m: float, z_m: float, yaw_rad: float) -> NDArray[np.float64]:
    """Return float64[4, 4]: a frame at x, y, z, turned about z only."""
    cos, sin = math.cos(yaw_rad), math.sin(yaw_rad)
    return np.array([[cos, -sin, 0, x_m], [sin, cos, 0, y_m], [0, 0, 1, z_m], [0, 0, 0, 1.0]])


def pose_of(transform: NDArray[np.float64]) -> GripperPose:
    """Return the pose of a grasp point's frame float64[4, 4], tilted or not."""
    x, y, z = (float(value) for value in transform[:3, 3])
    yaw_rad = math.atan2(-transform[0, 1], transform[1, 1])
    return GripperPose(x_m=x, y_m=y, z_m=z, yaw_rad=yaw_rad)


def tilt_of(transform: NDArray[np.float64]) -> float:
    """Return the angle between a frame's z, float64[4, 4], and the vertical: 0 to pi."""
    sideways = math.hypot(transform[0, 2], transform[1, 2])
    return math.atan2(sideways, float(transform[2, 2]))


def _turning_joints(model: ElementTree.Element) -> list[ElementTree.Element]:
    """Return the joints that turn between foot and grasp point, from the foot on."""
    by_child = {_named(one, "child", "link"): one for one in model.iter("joint")}
    way: list[ElementTree.Element] = []
    link = GRASP_POINT
    while link != FOOT:
        if link not in by_child:
            raise ValueError(f"no joint holds the link {link!r} between {FOOT} and {GRASP_POINT}")
        way.insert(0, by_child.pop(link))
        link = _named(way[0], "parent", "link")
    for one in way:
        if one.attrib["type"] not in ("revolute", "fixed"):
            raise ValueError(f"joint {one.attrib['name']} is neither 'revolute' nor 'fixed'")
    return [one for one in way if one.attrib["type"] == "revolute"]


def _narrow(turning: list[ElementTree.Element], limits_rad: NDArray[np.float64]) -> None:
    """Narrow the joints' limits in the model itself."""
    if limits_rad.shape != (len(turning), 2):
        raise ValueError(f"limits of shape {limits_rad.shape} for {len(turning)} joints")
    for one, (lowest, highest) in zip(turning, limits_rad.tolist(), strict=True):
        lower = max(float(_named(one, "limit", "lower")), lowest)
        upper = min(float(_named(one, "limit", "upper")), highest)
        for limit in one.iter("limit"):
            limit.attrib |= {"lower": repr(lower), "upper": repr(upper)}


def _joint(element: ElementTree.Element) -> Joint:
    joint = Joint(
        name=element.attrib["name"],
        lower_rad=float(_named(element, "limit", "lower")),
        upper_rad=float(_named(element, "limit", "upper")),
        max_speed_rad_s=float(_named(element, "limit", "velocity")),
    )
    if not joint.lower_rad < joint.upper_rad:
        raise ValueError(
            f"{joint.name}: no room between {joint.lower_rad} and {joint.upper_rad} rad"
        )
    return joint


def _check_names(names: list[str]) -> None:
    """See that a calibration, which is kept under these names, can be read again."""
    for name in names:
        try:
            msgspec.convert(name, Name)
        except msgspec.ValidationError as error:
            raise ValueError(
                f"name {name!r}: up to 64 letters, digits, dots, dashes and underscores"
            ) from error


def _named(joint: ElementTree.Element, part: str, attribute: str) -> str:
    """Return an attribute of a joint's part, such as the lower one of its limit."""
    found = joint.find(part)
    if found is None or attribute not in found.attrib:
        raise ValueError(f"joint {joint.attrib['name']}: <{part}> with {attribute!r} is missing")
    return found.attrib[attribute]


def _chain(model: ElementTree.Element) -> optik.Robot:
    # The library reads files only, and the limits may have been narrowed.
    with tempfile.NamedTemporaryFile(suffix=".urdf") as file:
        file.write(ElementTree.tostring(model))
        file.flush()
        chain = optik.Robot.from_urdf_file(file.name, FOOT, GRASP_POINT)
    chain.set_parallelism(1)
    return chain
