# SPDX-License-Identifier: MIT
"""Adds a device that stands in for a VLAN device, on kernels that have none (8021q).

usage: vlan.py CARD NAME ID

NAME is one end of a veth pair. A BPF program on the other end adds the tag and sends by CARD; one
on CARD takes tagged frames, removes the tag, and hands them to NAME. Frames on CARD are those of a
real VLAN. What differs is the device: its kind, and what it does for the stack (offloads).
"""

import ctypes
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Final

CALL_NUMBER: Final = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
PROG_LOAD, PROG_ATTACH = 5, 8
SCHED_CLS, TCX_INGRESS, TCX_NEXT = 3, 46, -1
VLAN_PUSH, VLAN_POP, REDIRECT = 18, 19, 23
TAG_PRESENT, TAG = 20, 24
"""Offsets in struct __sk_buff."""
ETH_P_8021Q: Final = socket.htons(0x8100)


def instruction(code: int, to: int = 0, of: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """An instruction of BPF."""
    return struct.pack("<BBhi", code, to | of << 4, offset, value)


def redirect(index: int) -> bytes:
    """Sends the packet by a device."""
    return (
        instruction(0xB7, 1, value=index)
        + instruction(0xB7, 2)
        + instruction(0x85, value=REDIRECT)
        + instruction(0x95)
    )


def tagging(number: int, card: int) -> bytes:
    """Adds the tag, and sends by the card."""
    return (
        instruction(0xB7, 2, value=ETH_P_8021Q)
        + instruction(0xB7, 3, value=number)
        + instruction(0x85, value=VLAN_PUSH)
        + redirect(card)
    )


def untagging(number: int, device: int) -> bytes:
    """Removes the tag of frames of the VLAN, and sends them by a device; passes others on."""
    end = instruction(0xBF, 1, 6) + instruction(0x85, value=VLAN_POP) + redirect(device)
    skipped = len(end) // 8
    return (
        instruction(0xBF, 6, 1)
        + instruction(0x61, 2, 6, TAG_PRESENT)
        + instruction(0x15, 2, offset=skipped + 3)
        + instruction(0x61, 2, 6, TAG)
        + instruction(0x57, 2, value=0xFFF)
        + instruction(0x55, 2, offset=skipped, value=number)
        + end
        + instruction(0xB7, 0, value=TCX_NEXT)
        + instruction(0x95)
    )


def bpf(command: int, attributes: bytes) -> int:
    """The system call."""
    octets = ctypes.create_string_buffer(attributes, len(attributes))
    library = ctypes.CDLL(None, use_errno=True)
    found = library.syscall(CALL_NUMBER, command, octets, len(attributes))
    if found < 0:
        sys.exit(f"vlan.py: bpf command {command}: {os.strerror(ctypes.get_errno())}")
    return int(found)


def attach(code: bytes, index: int) -> None:
    """Loads a program, and attaches it to what arrives on a device, after all others."""
    octets, licence = ctypes.create_string_buffer(code, len(code)), ctypes.c_char_p(b"MIT")
    address = ctypes.cast(licence, ctypes.c_void_p).value or 0
    load = struct.pack("=IIQQ", SCHED_CLS, len(code) // 8, ctypes.addressof(octets), address)
    program = bpf(PROG_LOAD, load + bytes(48))
    bpf(PROG_ATTACH, struct.pack("=IIIIIIQ", index, program, TCX_INGRESS, 0, 0, 0, 0))


def main(card: str, name: str, number: int) -> None:
    """Adds the device."""
    far = f"{name}-t"
    link = Path(f"/sys/class/net/{card}/address").read_text().strip()
    words = ["ip", "link", "add", name, "address", link, "type", "veth", "peer", "name", far]
    subprocess.run(words, check=True)
    Path(f"/proc/sys/net/ipv6/conf/{far}/disable_ipv6").write_text("1")
    subprocess.run(["ip", "link", "set", far, "up"], check=True)
    attach(tagging(number, socket.if_nametoindex(card)), socket.if_nametoindex(far))
    attach(untagging(number, socket.if_nametoindex(far)), socket.if_nametoindex(card))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
