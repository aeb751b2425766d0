# SPDX-License-Identifier: MIT
"""Other names and addresses in the place of those of a host, the same for the same each time.

Addresses that share a prefix share a prefix of the same length afterwards (Fan, Xu, Ammar and Moon,
"Prefix-preserving IP address anonymization", 2004). The labels of a name are replaced one by one,
so a name below another stays below it. The key is thrown away: no pseudonym leads back.
"""

import contextlib
import functools
import hashlib
import re
from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

KEY_OCTETS: Final = 32
LABEL_OCTETS: Final = 3
WORD_LENGTH_MIN: Final = 3
"""A shorter word that is a label of a name may be any word of a sentence."""
CACHE: Final = 16_384
SECRETS: Final = frozenset(
    {"birthday", "peer_birthday", "local_label", "peer_label", "reset_key", "key", "token", "nonce"}
)
"""Keys of objects that are left out, in any report."""
KEY_TEXT: Final = re.compile(
    r"(?<![0-9A-Za-z+/])(?:[0-9a-fA-F]{40,}|(?=[A-Za-z+/]*[0-9])[0-9A-Za-z+/]{43}=)"
    r"|\b(?:birthday|label|key|token|nonce|secret)\w*[=: ]+(?:0x)?[0-9a-f]*[0-9][0-9a-f]*\b"
)
"""What may be a key or a birthday in a line of text, in hexadecimal or base64."""
REMOVED: Final = "(removed)"
LINK_OCTETS_MAX: Final = 20
"""The longest link-layer address, that of InfiniBand (RFC 4391)."""

_HEX = r"[0-9A-Fa-f]"
_TIME = r"(?<![0-9A-Fa-f:])\d\d:\d\d:\d\d(?![0-9A-Fa-f]|:[0-9A-Fa-f:])"
_MAC = rf"(?<![0-9A-Fa-f:])(?:{_HEX}{{2}}[:-]){{5,}}{_HEX}{{2}}(?![0-9A-Fa-f:])"
_IPV6 = rf"(?<![0-9A-Za-z])(?:{_HEX}{{0,4}}:){{2,8}}[0-9A-Fa-f.]{{0,15}}(?:/\d{{1,3}})?"
_IPV4 = r"(?<![0-9A-Za-z.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?[0-9A-Za-z])"
_HEX_ADDRESS = rf"(?<![0-9A-Za-z])(?:0x)?{_HEX}{{32}}(?![0-9A-Za-z])"
_CHARACTER = r"(?:[\w-]|\\\d{3}|\\[^\w\s])"
"""A character of a name as it is, or as the DNS writes it (RFC 4343 §2.1)."""
_NAME = rf"(?<![\w\\/.-])(?:{_CHARACTER}{{1,63}}\.)+[^\W\d_][\w-]{{0,62}}\.?(?![\w(])"
_HOME = r"(?<=/home/)[^/\s\"']+"
TOKENS: Final = {
    "time": _TIME,
    "mac": _MAC,
    "ipv6": _IPV6,
    "ipv4": _IPV4,
    "hex": _HEX_ADDRESS,
    "known": r"(?<![\w-])(?:{})(?![\w-])",
    "name": _NAME,
    "home": _HOME,
}
"""What is replaced in a text; the first that matches at a place counts."""
SUFFIXES: Final = frozenset(
    {
        *("conf", "damaged", "device", "gz", "json", "log", "nft", "path"),
        *("pcapng", "service", "sock", "socket", "sqlite", "toml", "txt"),
    }
)
"""Last parts of names of files; none is a top-level domain."""
REVERSE: Final = ".ip6.arpa"
NIBBLES: Final = 32


class Pseudonyms:
    """The pseudonyms of one report.

    Args:
        key: KEY_OCTETS random octets, which are not kept.
        names: names that are known to be of hosts, such as that of this one.
        plain: words with dots that are none, such as keys of the configuration.
    """

    def __init__(self, key: bytes, names: Iterable[str], plain: Collection[str]) -> None:
        self.key = key
        self.plain = frozenset(plain)
        known = {name.lower().strip(".") for name in names} - {""}
        labels = {label for name in known for label in name.split(".")}
        words = sorted((one for one in labels if len(one) >= WORD_LENGTH_MIN), reverse=True)
        pattern = "|".join(map(re.escape, words))
        self._words = re.compile(rf"(?<![\w.])(?:{pattern})(?![\w.])", re.IGNORECASE)
        self._has_words = bool(words)
        self._tokens = _tokens(one for one in known if "." in one)
        self._bit = functools.lru_cache(CACHE)(self._flipped)

    def of_value(self, value: object) -> object:
        """A value of JSON with pseudonyms in every text, keys of objects included."""
        match value:
            case str():
                return self.of_text(value)
            case dict():
                return {self.of_text(str(key)): self.of_value(one) for key, one in value.items()}
            case list() | tuple():
                return [self.of_value(one) for one in value]
            case _:
                return value

    def of_text(self, text: str) -> str:
        """A text with pseudonyms for the names and addresses in it."""
        found = self._tokens.sub(self._replaced, text)
        return self._words.sub(lambda one: self._label(one[0]), found) if self._has_words else found

    def _replaced(self, found: re.Match[str]) -> str:
        ways: dict[str, Callable[[str], str]] = {
            "mac": self._mac,
            "ipv6": self._ipv6,
            "ipv4": self._ipv4,
            "hex": self._hexadecimal,
            "known": self._labels,
            "name": self._name,
            "home": self._label,
        }
        kind, text = str(found.lastgroup), found[0]
        return ways[kind](text) if kind in ways else text

    def of_address(self, address: IPv6Address | IPv4Address) -> IPv6Address | IPv4Address:
        """Another address of the same kind; special addresses such as ::1 stay."""
        if address.is_unspecified or address.is_loopback or address.is_multicast:
            return address
        width, kept = address.max_prefixlen, 0
        if isinstance(address, IPv6Address):
            kept = 64 if address.is_link_local else 8 if address.packed[0] & 0xFE == 0xFC else 3
        number = int(address)
        flips = 0
        for index in range(kept, width):
            flips = flips << 1 | self._bit(width, index, number >> width - index)
        return type(address)(number ^ flips)

    def _flipped(self, width: int, index: int, prefix: int) -> int:
        """Whether the bit behind a prefix is turned round: 1 or 0."""
        octets = b"%d %d %d" % (width, index, prefix)
        return hashlib.blake2b(octets, key=self.key, digest_size=1).digest()[0] & 1

    def _ipv6(self, text: str) -> str:
        whole, _, length = text.partition("/")
        try:
            address = IPv6Address(whole)
        except ValueError:
            return self._ipv6_in(text)
        found = int(self.of_address(address))
        bits = int(length or 128)
        if bits < 128 and int(address) & (1 << 128 - bits) - 1 == 0:  # a prefix, no address in one
            found &= ~((1 << 128 - bits) - 1)
        return str(IPv6Address(found)) + (f"/{length}" if length else "")

    def _ipv6_in(self, text: str) -> str:
        """A text that begins with an address: a colon, a full stop or a port may follow it."""
        for end in range(len(text) - 1, 1, -1):
            with contextlib.suppress(ValueError):
                return str(self.of_address(IPv6Address(text[:end]))) + self.of_text(text[end:])
        return self._prefix(text)

    def _prefix(self, text: str) -> str:
        """The first groups of an address, as the name of an uplink has them."""
        after = text[len(text.rstrip(":")) :]
        groups = text.strip(":").split(":")
        try:
            address = IPv6Address(f"{':'.join(groups)}::")
        except ValueError:
            return text
        others = self.of_address(address).exploded.split(":")[: len(groups)]
        return ":".join(f"{int(one, 16):x}" for one in others) + after

    def _ipv4(self, text: str) -> str:
        try:
            return str(self.of_address(IPv4Address(text)))
        except ValueError:
            return text

    def _hexadecimal(self, text: str) -> str:
        digits = text.removeprefix("0x")
        address = IPv6Address(int(digits, 16))
        return text.removesuffix(digits) + f"{int(self.of_address(address)):032x}"

    def _mac(self, text: str) -> str:
        octets = bytes.fromhex(text.replace(":", "").replace("-", ""))
        if len(octets) == 16:
            return self.of_address(IPv6Address(octets)).packed.hex(":")
        if len(octets) > LINK_OCTETS_MAX:
            return REMOVED  # such as a packet, which has addresses
        digest = hashlib.blake2b(octets, key=self.key, digest_size=len(octets)).digest()
        return bytes([digest[0] & 0xFC | 0x02, *digest[1:]]).hex(":")

    def _name(self, text: str) -> str:
        name = text.rstrip(".")
        if name in self.plain or name.rpartition(".")[2] in SUFFIXES:
            return text
        if name.lower().endswith(REVERSE):
            return self._reverse(name) + text[len(name) :]
        return self._labels(name) + text[len(name) :]

    def _labels(self, name: str) -> str:
        return ".".join(map(self._label, name.split(".")))

    def _reverse(self, name: str) -> str:
        nibbles = name.lower().removesuffix(REVERSE).split(".")
        digits = "".join(reversed(nibbles))
        if len(nibbles) > NIBBLES or not re.fullmatch("[0-9a-f]+", digits):
            return self._labels(name)
        address = IPv6Address(int(digits.ljust(NIBBLES, "0"), 16))
        other = f"{int(self.of_address(address)):032x}"[: len(nibbles)]
        return ".".join(reversed(other)) + REVERSE

    def _label(self, label: str) -> str:
        """Another label; the same in capitals."""
        octets = label.lower().encode(errors="replace")
        return "n" + hashlib.blake2b(octets, key=self.key, digest_size=LABEL_OCTETS).hexdigest()


def _tokens(known: Iterable[str]) -> re.Pattern[str]:
    """What is replaced, with these names."""
    names = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    patterns = TOKENS | {"known": TOKENS["known"].format(names or r"\b\B")}
    return re.compile("|".join(f"(?P<{one}>{text})" for one, text in patterns.items()), re.I)


def without_secrets(value: object) -> object:
    """A value of JSON without what is called a key, a token, a label or a birthday."""
    match value:
        case dict():
            return {key: without_secrets(one) for key, one in value.items() if key not in SECRETS}
        case list() | tuple():
            return [without_secrets(one) for one in value]
        case str():
            return KEY_TEXT.sub(REMOVED, value)
        case _:
            return value
