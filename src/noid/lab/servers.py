# SPDX-License-Identifier: MIT
"""The servers of a lab: NSD, which knows its names, and nginx, which serves one large file."""

import functools
import hashlib
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import dns.exception
import dns.message
import dns.query

from noid.errors import PlatformError
from noid.lab import configuration, namespaces, topology

CONTENT_NAME: Final = "file.bin"
CONTENT_OCTETS: Final = 200 * 2**20
CHUNK_OCTETS: Final = 2**20
SPARE_OCTETS: Final = 32 * 2**20
"""What we leave free where the file goes; /run is memory on most machines."""
DNS_PORT: Final = 53
ANSWER_TIMEOUT_S: Final = 1.0


def prepare_name_server(directory: Path) -> list[str]:
    """Writes NSD's files and returns the arguments it is started with."""
    directory.mkdir()
    path = directory / "nsd.conf"
    zones, place = configuration.zone_names(), (topology.NAME_SERVER, DNS_PORT)
    path.write_text(configuration.nsd_conf(directory, place, zones), encoding="utf-8")
    for zone in zones:
        text = configuration.zone_file(zone, topology.topology().names)
        configuration.zone_path(directory, zone).write_text(text, encoding="utf-8")
    return ["-d", "-c", str(path)]


def prepare_web_server(directory: Path) -> list[str]:
    """Writes nginx's files and returns the arguments it is started with.

    The content is zeros, which take no room, until ``make_content`` writes it.
    """
    content = directory / "content" / CONTENT_NAME
    content.parent.mkdir(parents=True)
    with content.open("wb") as file:
        file.truncate(CONTENT_OCTETS)
    path = directory / "nginx.conf"
    path.write_text(configuration.nginx_conf(directory), encoding="utf-8")
    return ["-p", str(directory), "-e", str(directory / "error.log"), "-c", str(path)]


def make_content(directory: Path) -> str:
    """Writes the file nginx serves, and returns its SHA-256 in hexadecimal.

    It consists of one random chunk, turned by one octet more each time: no two places are alike.

    Raises:
        PlatformError: there is no room for it.
    """
    path = directory / "content" / CONTENT_NAME
    free = shutil.disk_usage(path.parent).free
    if free < CONTENT_OCTETS + SPARE_OCTETS:
        raise PlatformError(
            f"write {path}", 0, f"only {free >> 20} MiB free, {CONTENT_OCTETS >> 20} MiB needed"
        )
    chunk, digest = _content()
    with path.open("wb") as file:
        file.writelines(_chunks(chunk))
    return digest


@functools.cache
def _content() -> tuple[bytes, str]:
    """The random chunk, and the SHA-256 of the file: the same for all labs of this process."""
    chunk = os.urandom(CHUNK_OCTETS)  # so many for the whole file would take half a second
    digest = hashlib.sha256()
    for one in _chunks(chunk):
        digest.update(one)
    return chunk, digest.hexdigest()


def _chunks(chunk: bytes) -> Iterator[memoryview]:
    twice = memoryview(chunk + chunk)  # copies of the parts would take as long as writing them
    for turned in range(CONTENT_OCTETS // CHUNK_OCTETS):
        yield twice[turned : turned + CHUNK_OCTETS]


def name_server_answers(lab: str) -> bool:
    """Whether NSD answers for the lab's zone."""
    query = dns.message.make_query(f"{configuration.ZONE}.", "SOA")

    def answers() -> bool:
        response = dns.query.udp(query, topology.NAME_SERVER, timeout=ANSWER_TIMEOUT_S)
        return bool(response.answer)

    return succeeds(namespaces.namespace(lab, "dns"), answers)


def web_server_answers(lab: str) -> bool:
    """Whether nginx accepts connections."""
    address = (topology.locators("b")[0], 80)

    def answers() -> bool:
        with socket.create_connection(address, timeout=ANSWER_TIMEOUT_S):
            return True

    return succeeds(namespaces.namespace(lab, "b"), answers)


def succeeds(namespace: str, attempt: Callable[[], bool]) -> bool:
    """Whether an attempt to use a server succeeds; false too if nothing answers.

    Args:
        namespace: where it is made.
        attempt: asks the server, and returns whether the answer is the wanted one.
    """
    try:
        return namespaces.inside(namespace, attempt)
    except (OSError, dns.exception.DNSException):
        return False
