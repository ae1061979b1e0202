"""Everything that is fuzzed, by name."""

from __future__ import annotations

from tests.fuzz.conversation_targets import CONVERSATION_TARGETS
from tests.fuzz.defective_target import DEFECTIVE
from tests.fuzz.fuzz_target import FuzzTarget
from tests.fuzz.line_targets import LINE_TARGETS
from tests.fuzz.message_targets import MESSAGE_TARGETS
from tests.fuzz.record_targets import RECORD_TARGETS
from tests.fuzz.release_targets import RELEASE_TARGETS
from tests.fuzz.serial_targets import SERIAL_TARGETS

TARGETS = {
    target.name: target
    for target in [
        *MESSAGE_TARGETS,
        *RECORD_TARGETS,
        *RELEASE_TARGETS,
        *CONVERSATION_TARGETS,
        *SERIAL_TARGETS,
        *LINE_TARGETS,
    ]
}


def target_named(name: str) -> FuzzTarget:
    """Return a target, also the one that is there to be found."""
    return DEFECTIVE if name == DEFECTIVE.name else TARGETS[name]
