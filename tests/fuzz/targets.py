# SPDX-License-Identifier: MIT
"""What is fuzzed: name -> a function that takes any octets and must return."""

from collections.abc import Callable

from tests.fuzz import decoders, engine, names, packets, servers, state

TARGETS: dict[str, Callable[[bytes], None]] = {
    "message": decoders.message,
    "options": decoders.options,
    "headers": decoders.headers,
    "data": decoders.data,
    "packet": packets.packet,
    "birthday": state.birthday,
    "record": state.record,
    "contexts": state.contexts,
    "query": names.query,
    "answer": names.answer,
    "question": servers.question,
    "response": servers.response,
    "control": servers.control,
    "host": engine.host,
}
