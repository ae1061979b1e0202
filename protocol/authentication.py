"""Letting enrolled keys in and nobody else: ZeroMQ's authentication protocol over the registry."""

from __future__ import annotations

import logging

import zmq
from zmq.auth.thread import ThreadAuthenticator

from protocol.errors import ConfigurationError
from protocol.refusal_log import STRANGER, RefusalLog
from protocol.registry import Registry
from protocol.sockets import ZAP_DOMAIN

logger = logging.getLogger(__name__)


class RegistryAuthenticator:
    """Answers, for every connection to a context's sockets, whether its key is enrolled.

    A message's ``User-Id`` is then the sender's public key in Z85. It must be looked up again for
    every message: revoking a key does not end a connection that is open.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        registry: Registry,
        refusals: RefusalLog | None = None,
    ) -> None:
        self.refused = 0
        """Connections refused so far."""
        self._registry = registry
        self._refusals = refusals or RefusalLog(logger)
        self._thread = ThreadAuthenticator(context, log=logger)
        self._thread.configure_curve_callback(domain=ZAP_DOMAIN, credentials_provider=self)

    def start(self) -> None:
        """Begin to answer; call it before a socket of the context is bound."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering; connections that are open stay open."""
        self._thread.stop()

    def callback(self, _domain: str, public_key: bytes) -> bool:
        """Say whether the key (Z85) may connect; called by pyzmq."""
        key = public_key.decode("ascii")
        try:
            if self._registry.member_for_key(key) is not None:
                return True
            reason = self._registry.refusal_reason(key)
        except ConfigurationError as error:
            reason = str(error)
        self.refused += 1
        self._refusals.warn(STRANGER, "not-enrolled", reason)
        return False
