"""Robots' release receivers and the learner's release server, on real sockets.

As a program it is a release server in a process of its own, to be killed:
    python -m tests.release_bench FOLDER ENDPOINT [RELEASE]
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from fleet.releases import ReleaseClient
from learner.releases.server import ReleaseServer
from protocol.episode import GripperPose
from protocol.hand_eye import HandEyeMap
from protocol.registry import Registry
from protocol.security import CurveKeys
from robot_agent.learner_keys import LearnerKeys
from robot_agent.policy.q_function import QFunction
from robot_agent.releases.receiver import ReleaseReceiver
from tests.releases import (
    CALIBRATION,
    SIGNING_KEY,
    SIZE_PX,
    make_curve_keys,
    write_secret,
)
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent
CHUNK_BYTES = 16_384
KEEP = 3


class Bench:
    """One learner's folder, release servers on it, and robots with folders of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server_keys = make_curve_keys()
        self.server_secret = write_secret(folder / "server.secret", self.server_keys)
        self.registry = Registry(folder / "registry")
        self.keys = self.enrol("robot-1")
        self._operator_keys: CurveKeys | None = None
        self._started: list[ReleaseServer | ReleaseReceiver | ReleaseClient] = []
        self._processes: list[subprocess.Popen[str]] = []

    def enrol(self, name: str) -> CurveKeys:
        keys = make_curve_keys()
        self.registry.enrol(name, keys.public.decode("ascii"))
        return keys

    def server(
        self, endpoint: str = "tcp://127.0.0.1:*", folder: str = "releases"
    ) -> ReleaseServer:
        server = make_server(self.folder, endpoint, folder)
        server.start()
        self._started.append(server)
        return server

    def server_process(
        self, endpoint: str = "tcp://127.0.0.1:*", release: bytes = b""
    ) -> tuple[subprocess.Popen[str], str]:
        """Start a server in a process of its own; return it and its endpoint."""
        command = [sys.executable, "-m", "tests.release_bench", str(self.folder), endpoint]
        if release:
            (self.folder / "first").write_bytes(release)
            command.append(str(self.folder / "first"))
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self._processes.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    def receiver(
        self,
        endpoint: str,
        *,
        name: str = "robot-1",
        keys: CurveKeys | None = None,
        calibration: HandEyeMap = CALIBRATION,
        subscribe_every_s: float = 0.1,
    ) -> ReleaseReceiver:
        state = self.state(name)
        receiver = ReleaseReceiver(
            endpoint=endpoint,
            keys=keys or self.keys,
            learner_keys=LearnerKeys(
                self.server_keys.public, verify_key=SIGNING_KEY.public_key(), state_folder=state
            ),
            verify_key=SIGNING_KEY.public_key(),
            state_folder=state,
            robot_id=name,
            calibration=calibration,
            height_px=SIZE_PX,
            width_px=SIZE_PX,
            chunk_bytes=CHUNK_BYTES,
            subscribe_every_s=subscribe_every_s,
        )
        receiver.start()
        self._started.append(receiver)
        return receiver

    def state(self, name: str = "robot-1") -> Path:
        return self.folder / "state" / name

    def operator(self, endpoint: str) -> ReleaseClient:
        if self._operator_keys is None:
            self._operator_keys = make_curve_keys()
            public = self._operator_keys.public.decode("ascii")
            self.registry.enrol("operator", public, role="operator")
        return self.client(endpoint, self._operator_keys)

    def client(self, endpoint: str, keys: CurveKeys) -> ReleaseClient:
        """Return a connection such as the operator's, under any key."""
        client = ReleaseClient(endpoint, keys, self.server_keys.public)
        self._started.append(client)
        return client

    def close(self) -> None:
        for each in reversed(self._started):
            each.close()
        for process in self._processes:
            process.kill()
            process.wait()


def make_server(folder: Path, endpoint: str, releases: str = "releases") -> ReleaseServer:
    return ReleaseServer(
        endpoint=endpoint,
        server_secret=folder / "server.secret",
        registry=Registry(folder / "registry"),
        folder=folder / releases,
        keep=KEEP,
        signing_key=SIGNING_KEY,
    )


def take(receiver: ReleaseReceiver, version: int) -> QFunction:
    wait_until(lambda: receiver.version == version, f"release {version} is ready")
    newest = receiver.take_newest()
    assert newest is not None
    assert newest.version == version
    return newest


def stay_score(q_function: QFunction) -> float:
    """Return the success that a network predicts for staying where the hand is."""
    image = np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8)
    pose = GripperPose(x_m=0.0, y_m=0.0, z_m=0.05, yaw_rad=0.0)
    features = q_function.encode(image, image)
    return float(q_function.score(features, pose, np.zeros((1, 5), np.float32))[0])


def serve(folder: str, endpoint: str, *release: str) -> None:
    server = make_server(Path(folder), endpoint)
    server.start()
    for path in release:
        server.publish(Path(path).read_bytes())
    print(server.endpoint, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    serve(*sys.argv[1:])
