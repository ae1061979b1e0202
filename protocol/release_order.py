"""Signed orders to use a certain release (see messages.ReleaseOrder)."""

from __future__ import annotations

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocol.errors import RejectedReleaseError
from protocol.messages import ReleaseOrder, SignedOrder

_DOMAIN = b"graspfleet release order\0"
"""Keeps a signature made for anything else from being taken for one of an order."""

# Made here, not at the first use, where two threads could meet: see the end of protocol.messages.
_order_decoder = msgspec.msgpack.Decoder(ReleaseOrder)


def sign_order(order: ReleaseOrder, signing_key: Ed25519PrivateKey) -> SignedOrder:
    """Return the order as it travels, signed with the key that signs releases."""
    encoded = msgspec.msgpack.encode(order)
    return SignedOrder(order=encoded, signature=signing_key.sign(_DOMAIN + encoded))


def open_order(signed: SignedOrder, verify_key: Ed25519PublicKey) -> ReleaseOrder:
    """Verify an order and return it.

    Raises:
        RejectedReleaseError: the signature is not of the key that signs releases, or what it
            signs is no order.
    """
    try:
        verify_key.verify(signed.signature, _DOMAIN + signed.order)
    except InvalidSignature as error:
        raise RejectedReleaseError(
            "its order is not signed with the key this robot trusts: forged, or of another learner"
        ) from error
    try:
        return _order_decoder.decode(signed.order)
    except msgspec.DecodeError as error:
        raise RejectedReleaseError(f"its order is malformed: {error}") from error
