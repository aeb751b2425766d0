# SPDX-License-Identifier: MIT
"""``noid capture``: the packets of one context on the uplinks, as a file for Wireshark."""

import argparse
import contextlib
import signal
import subprocess
import sys
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, BinaryIO, Final

from noid.cli.leaves import add_command
from noid.cli.output import say
from noid.cli.places import Count, add_socket
from noid.constants import FLOW_LABEL_MASK
from noid.control.client import ask, ask_rows
from noid.errors import PlatformError, UsageError
from noid.host.own_files import open_own
from noid.host.programs import find_program
from noid.wire import control as messages
from noid.wire import ipv6

PROGRAM: Final = "dumpcap"
ICMPV6_AT: Final = ipv6.HEADER_OCTETS
SENDER_AT, RECEIVER_AT = ICMPV6_AT + messages.SENDER_AT, ICMPV6_AT + messages.RECEIVER_AT
"""Offsets of type, sender's AID and receiver's AID of a control message in its packet."""
NO_REASONS: Final = ("Capturing on ", "File: ", "Packets ")
"""How lines of the program begin that do not say why it failed."""
EXAMPLES_MAX: Final = 3
COUNT_MAX: Final = 99_999_999
STANDARD_OUTPUT: Final = "-"
DESCRIPTION: Final = """\
Captures the packets of one context on every uplink: data with its flow labels, plain packets
between its AIDs, and control messages. Ends with Ctrl-C. The file is pcapng;
contrib/wireshark/noid.lua decodes it. Needs dumpcap (Debian package tshark) and root."""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command ``capture``."""
    example = "noid capture b.example --output b.pcapng --duration 60"
    parser = add_command(commands, "capture", capture, example, description=DESCRIPTION)
    parser.add_argument("peer", metavar="PEER", help="name, address or flow label of the context")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("noid.pcapng"),
        metavar="FILE",
        help="default: noid.pcapng; - for the standard output",
    )
    parser.add_argument(
        "--duration", type=Count(COUNT_MAX), metavar="SECONDS", help="default: until Ctrl-C"
    )
    parser.add_argument(
        "--packets", type=Count(COUNT_MAX), metavar="COUNT", help="stop after this many packets"
    )
    add_socket(parser)


def capture(arguments: argparse.Namespace) -> int:
    """Captures until it is interrupted, or the duration or packet count is reached."""
    program = find_program(PROGRAM)
    context = find_context(list(ask_rows(arguments.socket, "contexts")), arguments.peer)
    uplinks = sorted({one["interface"] for one in ask(arguments.socket, "paths")["uplinks"]})
    if not uplinks:
        raise PlatformError("capture", 0, "this host has no uplink; see: noid doctor")
    wanted = packet_filter(context, control_type(ask(arguments.socket, "status")))
    words = [program, "-q", "-n", "-w", STANDARD_OUTPUT, "-f", wanted]
    words += [word for uplink in uplinks for word in ("-i", uplink)]
    words += [] if arguments.duration is None else ["-a", f"duration:{arguments.duration}"]
    words += [] if arguments.packets is None else ["-c", str(arguments.packets)]
    say(
        f"capturing {context['local_aid']} and {context['peer_aid']} on {' '.join(uplinks)} "
        f"to {arguments.output}; Ctrl-C ends it",
        is_error=True,
    )
    sys.stderr.flush()
    if str(arguments.output) == STANDARD_OUTPUT:
        return _run(words, None)
    try:
        with open_own(arguments.output) as file:
            return _run(words, file)
    except OSError as error:
        why = error.strerror or str(error)
        raise PlatformError(f"write {arguments.output}", error.errno or 0, why) from None


def _run(words: list[str], file: BinaryIO | None) -> int:
    """Runs the program; it also gets Ctrl-C, and then closes its file.

    Args:
        words: its command line.
        file: its standard output; None for that of this process.
    """
    with subprocess.Popen(words, stdout=file, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines: list[str] = []
        while True:
            try:
                lines += process.stderr.read().splitlines()
                break
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)  # in case the terminal has not sent it
        status = process.wait()
    if status != 0:
        reason = " ".join(line for line in lines if line and not line.startswith(NO_REASONS))
        raise PlatformError(PROGRAM, status, reason.removeprefix("dumpcap: ") or "it failed")
    return 0


def find_context(contexts: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    """The context with a peer of that name or address, or with that flow label.

    Raises:
        UsageError: no context matches, or several do.
    """
    name = wanted.rstrip(".").lower()
    with contextlib.suppress(ValueError):
        name = str(IPv6Address(name))
    found = [one for one in contexts if name in _names_of(one)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"no context with {wanted}; noid contexts lists all contexts")
    labels = ", ".join(f"{one['local_label']:#x}" for one in found[:EXAMPLES_MAX])
    raise UsageError(f"{len(found)} contexts with {wanted}; name one by its flow label: {labels}")


def _names_of(context: dict[str, Any]) -> set[str]:
    labels = (context["local_label"], context["peer_label"])
    addresses = (context["peer_aid"], *context["lsl_peer"], *context["lsr_peer"])
    return {
        context["peer_name"].rstrip(".").lower(),
        *addresses,
        *map(hex, labels),
        *map(str, labels),
    }


def control_type(status: dict[str, Any]) -> int:
    """The ICMPv6 type of control messages of a daemon, by its status.

    Raises:
        PlatformError: the daemon does not say it, because it was started before an upgrade.
    """
    if "codepoints" not in status:
        raise PlatformError(
            "capture", 0, "the daemon is of an earlier version; restart it: systemctl restart noid"
        )
    return int(status["codepoints"]["icmpv6_type"])


def packet_filter(context: dict[str, Any], icmpv6_type: int) -> str:
    """A filter for the packets of a context, in the syntax of pcap-filter(7).

    Args:
        context: as in ``noid contexts``.
        icmpv6_type: of control messages.
    """
    local, peer = context["local_aid"], context["peer_aid"]
    labels = [one for one in (context["local_label"], context["peer_label"]) if one]
    parts = [f"(ip6[0:4] & {FLOW_LABEL_MASK:#x} == {label})" for label in labels]
    parts.append(f"(host {local} and host {peer})")
    control = f"ip6[{ICMPV6_AT}] == {icmpv6_type}"
    ends = " or ".join(
        f"({_address_at(SENDER_AT, one)} and {_address_at(RECEIVER_AT, other)})"
        for one, other in ((local, peer), (peer, local))
    )
    hosts = " or ".join(f"host {one}" for one in sorted({peer, *context["lsl_peer"]}))
    parts.append(f"({control} and ({ends}))")
    parts.append(f"({control} and ip6[{ICMPV6_AT + 1}] == {messages.Code.UC.value} and ({hosts}))")
    return f"ip6 and ({' or '.join(parts)})"


def _address_at(at: int, address: str) -> str:
    octets = IPv6Address(address).packed
    words = [int.from_bytes(octets[part : part + 4], "big") for part in range(0, 16, 4)]
    return " and ".join(f"ip6[{at + 4 * n}:4] == {word:#x}" for n, word in enumerate(words))
