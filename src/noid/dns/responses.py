"""Responses kept for the host's programs, bounded in number and in octets. Pure: now is passed in.

An equal query gets the equal response until the least of its times to live has run down, whatever
the response is: found, not there, any type [RFC 2308]. The oldest goes first.
"""

from collections import OrderedDict
from typing import Final

from noid.dns.messages import Query, Response

RESPONSES_MAX: Final = 10_000
"""Responses kept."""
RESPONSE_OCTETS_MAX: Final = 8 * 2**20
"""Octets of all of them together, as they came."""


class Responses:
    """The responses to queries asked before."""

    def __init__(self) -> None:
        self.octets = 0
        self._kept: OrderedDict[bytes, Response] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, query: Query, now_s: float) -> Response | None:
        """The response to an equal query, if it may still be used."""
        key = query.key
        response = self._kept.get(key)
        if response is None:
            return None
        if now_s - response.received_s >= response.lifetime_s:
            self._drop(key)
            return None
        return response

    def keep(self, query: Query, response: Response) -> None:
        """Keeps a response, if it may be used at all."""
        if not response.lifetime_s:
            return
        key = query.key
        self._drop(key)
        self._kept[key] = response
        self.octets += len(key) + len(response.octets)
        while len(self._kept) > RESPONSES_MAX or self.octets > RESPONSE_OCTETS_MAX:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        response = self._kept.pop(key, None)
        if response is not None:
            self.octets -= len(key) + len(response.octets)
