# SPDX-License-Identifier: MIT
"""A person who types the ten-minute guide."""

from tests.guide.blocks import Block, blocks
from tests.guide.network import Network

GUIDE = "ten-minutes.md"
SOME_OCTETS = 4_000_000
CUT = "ip link set eth0 down"
HEAL = "ip link set eth0 up"


def type_in(network: Network, block: Block) -> dict[str, str]:
    """Types a block, waits for what a person sees before going on, and publishes records."""
    said = network.type(block)
    if "noid run" in block.text:
        for host in block.machines:
            network.wait(host, "noid status")
    elif "http.server" in block.text:
        network.wait("b", "curl -s -o /dev/null http://[::1]/")
    elif "curl" in block.text:
        network.wait("a", f"test $(stat -c %s /tmp/big) -gt {SOME_OCTETS}")
    elif "noid zone" in block.text:
        network.publish([line for text in said.values() for line in text.splitlines()])
    return said


def set_up(network: Network) -> None:
    """Types the guide up to the point where noid runs and finds nothing wrong."""
    for block in blocks(GUIDE):
        type_in(network, block)
        if "noid doctor" in block.text:
            break


def heal(network: Network) -> None:
    """Types what the guide says about a card that was set down."""
    (block,) = (one for one in blocks(GUIDE) if HEAL in one.text)
    type_in(network, block)
