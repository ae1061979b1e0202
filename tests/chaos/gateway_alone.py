"""The gateway of a learner.toml without Ray around it.

python -m tests.chaos.gateway_alone --config learner.toml
"""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

from learner.config import LearnerConfig
from learner.ingestion.gateway import Gateway
from learner.logs import configure_logs
from protocol.configuration import load_toml
from protocol.sockets import raise_descriptor_limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="a learner.toml")
    config = load_toml(parser.parse_args().config, LearnerConfig)
    configure_logs(config.log_level)
    raise_descriptor_limit()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    gateway = Gateway(config.gateway, config.keys.server_secret, config.keys.registry)
    gateway.start()
    stopping.wait()
    gateway.stop()


if __name__ == "__main__":
    main()
