"""Two machines with an ssh server each: processes, network, home and Ray's folder of their own."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.network_namespaces import Machine, two_machines
from tests.waiting import wait_until

_SSHD = "/usr/sbin/sshd"
_RAY_FOLDER = "/tmp/ray"
_SSH_CONFIG = "/etc/ssh/ssh_config"
_KEY_OF_RAY = "ray_bootstrap_key.pem"
"""What a head logs in to its workers with; ``ray up`` puts it into the head's home."""
_CONFIG = """\
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/client_key.pub
StrictModes no
UsePAM no
SetEnv HOME={home}
PermitRootLogin prohibit-password
PasswordAuthentication no
PidFile none
MaxStartups 50
"""


@dataclass(frozen=True)
class SshMachine:
    """One machine, and the folder that everything of its own lies in."""

    machine: Machine
    folder: Path

    @property
    def address(self) -> str:
        return self.machine.address

    @property
    def disk(self) -> Path:
        """What only this machine finds at ``home``, as anyone else sees it."""
        return self.folder / "home"

    @property
    def home(self) -> Path:
        """The login's home, at the same path on every machine."""
        return self.folder.parent / "home"

    def command(self, *command: str) -> list[str]:
        """Return a command line that runs here, in a process namespace of its own.

        Whatever it starts ends with it, and it sees and signals no process outside.
        """
        self.disk.mkdir(parents=True, exist_ok=True)
        self.home.mkdir(exist_ok=True)
        (self.folder / "ray").mkdir(exist_ok=True)
        # For ssh, and for nothing else, ~ is the home in the user database, whatever HOME says.
        (self.folder / "ssh_config").write_text(f"IdentityFile {self.home}/{_KEY_OF_RAY}\n")
        steps = [
            ["mount", "--bind", str(self.disk), str(self.home)],
            ["mount", "--bind", str(self.folder / "ray"), _RAY_FOLDER],
            ["mount", "--bind", str(self.folder / "ssh_config"), _SSH_CONFIG],
            ["exec", "env", f"HOME={self.home}", *command],
        ]
        script = " && ".join(map(shlex.join, steps))
        alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]
        return [*self.machine.prefix, *alone, "sh", "-c", script]


@contextmanager
def two_ssh_machines(folder: Path) -> Iterator[tuple[SshMachine, SshMachine, Path]]:
    """Yield a head's and a worker's machine and the key that logs in to both.

    Skips the test where that cannot be had: it takes root, and Debian's openssh-server and rsync.
    """
    for program in (_SSHD, "ssh", "ssh-keygen", "rsync", "unshare"):
        if shutil.which(program) is None:
            pytest.skip(f"no cluster over ssh: {Path(program).name} is not installed")
    Path(_RAY_FOLDER).mkdir(exist_ok=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    with two_machines() as (worker, head):
        pair = SshMachine(head, folder / "head"), SshMachine(worker, folder / "worker")
        for name in ("client_key", "host_key"):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(make, check=True)
        servers = [_serve(one, folder) for one in pair]
        try:
            yield *pair, folder / "client_key"
        finally:
            for server in servers:
                server.kill()  # and with it, by the kernel, everything on that machine
                server.wait()


def _serve(one: SshMachine, folder: Path) -> subprocess.Popen[bytes]:
    # Ray finds a node's address by the route that it would take into the world.
    one.machine.ip("route", "add", "default", "dev", "cable")
    config = folder / f"{one.folder.name}.sshd"
    config.write_text(_CONFIG.format(address=one.address, folder=folder, home=one.home))
    with (folder / f"{one.folder.name}.log").open("wb") as log:
        command = one.command(_SSHD, "-D", "-e", "-f", str(config))
        server = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    login = [*one.machine.prefix, "ssh", "-i", str(folder / "client_key"), *_TRUSTING]
    command = [*login, one.address, "true"]
    wait_until(lambda: subprocess.run(command, check=False).returncode == 0, "an ssh login")
    return server


_TRUSTING = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-q")
