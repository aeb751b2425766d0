"""What is fuzzed: name -> a function that takes any octets and must return."""

from collections.abc import Callable

from tests.fuzz import decoders, engine, servers

TARGETS: dict[str, Callable[[bytes], None]] = {
    "message": decoders.message,
    "options": decoders.options,
    "headers": decoders.headers,
    "data": decoders.data,
    "question": servers.question,
    "response": servers.response,
    "control": servers.control,
    "host": engine.host,
}
