# SPDX-License-Identifier: MIT
"""Two providers and a name server, and two machines on which nothing is configured."""

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Self

from noid.lab import configuration, namespaces, servers
from noid.lab.topology import HOSTS, NAME_SERVER, Link, Topology, topology
from noid.lab.waiting import wait_for
from tests.guide.blocks import Block
from tests.packaging.machine import LIMIT_S, Machine

ROOT = Path(__file__).parent.parent.parent
WHEELS = "srv/wheels"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    # The packages that PyPI would send.
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": f"/{WHEELS}",
    "PIP_CONFIG_FILE": "/dev/null",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}


def renamed(end: tuple[str, str]) -> tuple[str, str]:
    """The end of a link, with the names of cards that machines have: eth0, eth1."""
    node, interface = end
    return (node, f"eth{int(interface[-1]) - 1}") if node in HOSTS else end


def bare_plan() -> Topology:
    """The network of the lab without anything configured on its hosts."""
    plan = topology()
    return replace(
        plan,
        links=tuple(Link(left=renamed(one.left), right=renamed(one.right)) for one in plan.links),
        addresses=tuple(one for one in plan.addresses if one.node not in HOSTS),
        routes=tuple(one for one in plan.routes if one.node not in HOSTS),
        rules=tuple(one for one in plan.rules if one.node not in HOSTS),
    )


class Network:
    """The network, its name server and the machines a and b.

    Args:
        directory: for the name server and the machines.
        wheels: where the packages are that pip installs.
    """

    def __init__(self, directory: Path, wheels: Path) -> None:
        self.name = f"guide-{os.getpid()}-{secrets.token_hex(3)}"
        self.plan = bare_plan()
        self.directory = directory
        self.wheels = wheels
        self.machines: dict[str, Machine[Network]] = {}
        self.staying: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.records: list[str] = []
        self.name_server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.callback(self.close)
            namespaces.create(self.name, self.plan)
            namespaces.configure(self.name, self.plan)
            self.publish([])
            for host in HOSTS:
                place = self.directory / host
                place.mkdir()
                self.machines[host] = machine = Machine["Network"](self, host, place)
                machine.path("etc/resolv.conf").write_text(f"nameserver {NAME_SERVER}\n")
                machine.path("etc/nsswitch.conf").write_text(configuration.nsswitch_conf())
                machine.path("etc/hosts").write_text("::1 localhost\n")
                machine.run("mount", "-t", "bpf", "bpf", "/sys/fs/bpf")  # as systemd does
                machine.path(WHEELS).mkdir(parents=True)
                for wheel in self.wheels.iterdir():
                    (machine.path(WHEELS) / wheel.name).write_bytes(wheel.read_bytes())
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends everything and removes the namespaces."""
        for _, process in self.staying:
            process.kill()
            process.wait(LIMIT_S)
        if self.name_server is not None:
            self.name_server.kill()
            self.name_server.wait(LIMIT_S)
        for node in namespaces.members(self.name, self.plan.nodes):
            with contextlib.suppress(ProcessLookupError):
                subprocess.run(["kill", "-9", str(node)], check=False)
        for machine in self.machines.values():
            machine.close()
        namespaces.remove(self.name, self.plan.nodes)

    def command(self, node: str, arguments: Sequence[str]) -> list[str]:
        """The command line that runs a command on a node."""
        return ["ip", "netns", "exec", namespaces.namespace(self.name, node), *arguments]

    # --- the name server ------------------------------------------------------------------------

    def publish(self, lines: list[str]) -> None:
        """Adds records in zone-file form to the zones; returns when the name server has them."""
        self.records += [line for line in lines if line and not line.startswith(";")]
        directory = self.directory / "nsd"
        directory.mkdir(exist_ok=True)
        zones = configuration.zone_names()
        for zone in zones:
            text = configuration.zone_file(zone, ())
            own = [one for one in self.records if one.split()[0].endswith(f".{zone}.")]
            configuration.zone_path(directory, zone).write_text(text + "\n".join(own) + "\n")
        path = directory / "nsd.conf"
        path.write_text(configuration.nsd_conf(directory, (NAME_SERVER, 53), zones))
        if self.name_server is not None:
            self.name_server.terminate()
            self.name_server.wait(LIMIT_S)
        log = (directory / "log").open("ab")
        with log:
            words = self.command("dns", ["nsd", "-d", "-c", str(path)])
            self.name_server = subprocess.Popen(words, stdout=log, stderr=log)
        wait_for("NSD answers", lambda: servers.name_server_answers(self.name), LIMIT_S)

    # --- what people type -----------------------------------------------------------------------

    def shell(self, host: str, text: str) -> list[str]:
        """The command line that types commands on a machine; the first that fails is the last."""
        return self.machines[host].command("sh", "-ec", text)

    def type(self, block: Block) -> dict[str, str]:
        """Types a block on its machines at the same time, and returns what each says."""
        if block.stays:
            for host in block.machines:
                self.stay(host, block.text)
            return {}
        with ThreadPoolExecutor() as pool:
            every = pool.map(lambda host: self.run(host, block.text), block.machines)
            said = dict(zip(block.machines, every, strict=True))
        for host, done in said.items():
            assert done.returncode == 0, f"on {host}: {block.text}{done.stdout}{done.stderr}"
        return {host: done.stdout for host, done in said.items()}

    def run(self, host: str, text: str) -> "subprocess.CompletedProcess[str]":
        """Types commands on a machine, whether they fail or not."""
        return subprocess.run(
            self.shell(host, text), capture_output=True, text=True, env=ENVIRONMENT, timeout=LIMIT_S
        )

    def stay(self, host: str, text: str) -> None:
        """Types commands in a terminal of its own."""
        log = (self.directory / f"{host}-{len(self.staying)}.log").open("ab")
        with log:
            process = subprocess.Popen(
                self.shell(host, text),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=ENVIRONMENT,
                start_new_session=True,
            )
        self.staying.append((text, process))

    def started(self, word: str) -> "list[subprocess.Popen[bytes]]":
        """The processes in terminals of their own whose commands have a word."""
        return [process for text, process in self.staying if word in text]

    def wait(self, host: str, text: str) -> None:
        """Waits until commands succeed on a machine."""
        self.machines[host].until(lambda: self.run(host, text).returncode == 0)


def make_wheels(directory: Path) -> Path:
    """Builds the wheel of noid, and fetches those of what it needs, for the system's Python."""
    words = ["-m", "pip", "--quiet", "--disable-pip-version-check", "--python", "/usr/bin/python3"]
    done = subprocess.run(
        [sys.executable, *words, "wheel", "--wheel-dir", str(directory), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return directory
