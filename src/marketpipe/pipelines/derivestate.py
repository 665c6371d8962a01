"""A derivation's saved state: what is in front of its engines' bytes."""

import json
from typing import Any

import msgspec

from marketpipe.domain.batches import StreamKey
from marketpipe.errors import StateError

STATE_FORMAT = 3
"""Another one is not read."""


def read_state(state: bytes) -> tuple[dict[str, Any], bytes, list[bytes]]:
    """Return the head, the parser's state and the engines' states of what `Derivation.save` gave.

    Raises
    ------
    StateError
        If it is of another format.
    """
    try:
        head, parser, *engines = msgspec.msgpack.decode(state)
        facts = json.loads(head)
        found = facts["format"]
    except (msgspec.DecodeError, ValueError, KeyError, TypeError) as problem:
        raise StateError(f"saved state cannot be read ({problem}); replay the journal") from problem
    if found != STATE_FORMAT:
        raise StateError(f"saved state: format was {found}, expected {STATE_FORMAT}; replay")
    facts["streams"] = tuple(StreamKey(*key) for key in facts["streams"])
    return facts, parser, engines
