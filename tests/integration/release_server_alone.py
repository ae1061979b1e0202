"""The release server of a learner.toml without Ray around it; serves what its folder holds.

python -m tests.integration.release_server_alone --config learner.toml
"""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

from learner.config import LearnerConfig
from learner.logs import configure_logs
from learner.releases.server import ReleaseServer
from protocol.configuration import load_toml
from protocol.registry import Registry
from protocol.security import load_release_secret
from protocol.sockets import raise_descriptor_limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="a learner.toml")
    config = load_toml(parser.parse_args().config, LearnerConfig)
    configure_logs(config.log_level)
    raise_descriptor_limit()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    server = ReleaseServer(
        endpoint=config.releases.bind,
        server_secret=config.keys.server_secret,
        registry=Registry(config.keys.registry),
        folder=config.releases.folder,
        keep=config.releases.keep,
        signing_key=load_release_secret(config.keys.release_secret),
    )
    server.start()
    stopping.wait()
    server.close()


if __name__ == "__main__":
    main()
