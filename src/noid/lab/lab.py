# SPDX-License-Identifier: MIT
"""A lab: the network of ``topology`` with its name server, its web server and, if wanted, noid.

    with Lab.create(plane="tun") as lab:
        lab.run("a", ["ping", "-c1", "b.example"])
        lab.cut(1)

What it leaves on the machine, and how that goes again, is in ``inventory``.
"""

import contextlib
import errno
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from noid.control.client import answers, ask, ask_rows
from noid.errors import PlatformError, UsageError
from noid.host.programs import find_program
from noid.lab import (
    capturing,
    configuration,
    inventory,
    machine,
    namespaces,
    processes,
    servers,
    topology,
    variants,
)
from noid.lab.inventory import Description, Plane
from noid.lab.network import Network
from noid.lab.processes import Process
from noid.lab.sites import Sites, sites_plan
from noid.lab.starting import await_ready
from noid.lab.topology import NAME_SERVER, Link
from noid.lab.variants import Variant
from noid.lab.waiting import wait_for
from noid.planes.bpf.pins import prepare_pins

Found = TypeVar("Found")

RUN_TIMEOUT_S: Final = 60.0


class Lab(Network):
    """A lab that is up.

    Made by ``create``, ``up`` or ``attach``, never by hand.

    Args:
        description: what is known of it.
    """

    def __init__(self, description: Description) -> None:
        self.description = description
        plan = (
            sites_plan(description.sites)
            if description.sites is not None
            else variants.plan_of(description.variant)
        )
        super().__init__(description.name, inventory.directory_of(description.name), plan)
        self.plane = description.plane
        self._children: list[Process] = []

    @classmethod
    @contextlib.contextmanager
    def create(
        cls,
        *,
        plane: Plane = "none",
        variant: Variant = "plain",
        name: str | None = None,
        sites: Sites | None = None,
    ) -> Iterator["Lab"]:
        """A lab for the time of a ``with``.

        Args:
            plane: of the daemons, or none.
            variant: the network.
            name: of the lab; if None, one that has the id of this process in it.
            sites: the network in place of a variant: with borders.

        Raises:
            ShimError: as ``up``.
        """
        called = name or f"run-{os.getpid()}-{secrets.token_hex(3)}"
        lab = cls.up(called, plane=plane, variant=variant, sites=sites)
        try:
            yield lab
        finally:
            lab.down()

    @classmethod
    def up(
        cls, name: str, *, plane: Plane, variant: Variant = "plain", sites: Sites | None = None
    ) -> "Lab":
        """Builds a lab that stays; if it cannot build all of it, nothing is left.

        Args:
            name: of the lab.
            plane: of the daemons, or none.
            variant: the network.
            sites: the network in place of a variant: with borders, whose daemons do not run yet.

        Raises:
            UsageError: the name cannot be one, or a lab of that name is there.
            Unsupported: a program is missing, or the kernel lacks what the variant needs.
            PlatformError: not root, the kernel refuses, or a program does not come up.
        """
        machine.check_machine("ip", "nsd", "nginx")
        description = Description(name=name, plane=plane, variant=variant, sites=sites)
        inventory.claim(description)
        lab = cls(description)
        try:
            lab._build()
        except BaseException:
            lab.down()
            raise
        return lab

    @classmethod
    def attach(cls, name: str) -> "Lab":
        """A lab that another process has built.

        Raises:
            UsageError: there is none of that name.
        """
        return cls(inventory.read_description(name))

    def down(self) -> None:
        """Removes the lab.

        Raises:
            PlatformError: something would not go; everything else is gone.
        """
        try:
            inventory.remove(self.name)
        finally:
            for child in self._children:
                child.popen.poll()

    # --- what runs on the nodes -------------------------------------------------------------------

    def run(
        self, node: str, arguments: Sequence[str], *, timeout_s: float = RUN_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command on a node to its end, and returns its exit status and its output.

        Raises:
            PlatformError: it does not end in time.
        """
        try:
            return subprocess.run(
                self.command(node, arguments),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise PlatformError(
                f"{' '.join(arguments)} on {node}",
                errno.ETIMEDOUT,
                f"did not end within {timeout_s:g} s",
            ) from None

    def serve_content(self) -> None:
        """Lets the web server of b have the file that downloads fetch, if it does not have it yet.

        Most labs download nothing, and to write the file takes as long as the rest of a lab.

        Raises:
            PlatformError: there is no room for it.
        """
        if not self.description.content_octets:
            self.description = msgspec.structs.replace(
                self.description,
                content_octets=servers.CONTENT_OCTETS,
                content_sha256=servers.make_content(self.directory / "web"),
            )
            inventory.write_description(self.description)

    def spawn(self, node: str, arguments: Sequence[str], *, name: str = "") -> Process:
        """Starts a command on a node; it ends with the lab at the latest.

        Raises:
            PlatformError: it cannot be started.
        """
        records = processes.read_records(self._records)
        sequence = 1 + max((record.sequence for record in records), default=0)
        called = name or f"{node}-{sequence}-{Path(arguments[0]).name}"
        process = processes.start(
            self.command(node, arguments),
            sequence=sequence,
            name=called,
            node=node,
            log_path=self._log_path(called),
        )
        processes.write_record(self._records, process.record)
        self._children.append(process)
        return process

    def command(self, node: str, arguments: Sequence[str]) -> list[str]:
        """The command line that runs a command on a node.

        Raises:
            UsageError: there is no such node.
        """
        if node not in self.plan.nodes:
            raise UsageError(f"no host {node!r} in a lab; there are {', '.join(self.plan.nodes)}")
        return ["ip", "netns", "exec", namespaces.namespace(self.name, node), *arguments]

    @contextlib.contextmanager
    def capture(
        self, node: str, interface: str, path: Path, *, octets_each: int = 0
    ) -> Iterator[None]:
        """Captures what passes an interface, or ``any``, into a pcapng file.

        Args:
            node: the node.
            interface: its name there.
            path: the file to write.
            octets_each: how much to keep of each packet; all of it if 0.

        Raises:
            Unsupported: dumpcap is missing.
            PlatformError: it does not start capturing.
        """
        arguments = capturing.command(interface, path, octets_each)
        process = self.spawn(node, arguments)
        try:
            await_ready(process, f"dumpcap captures on {node}", lambda: "File:" in process.output())
            yield
            capturing.await_quiet(path)
        finally:
            process.end()

    # --- noid on the hosts ------------------------------------------------------------------------

    def start_daemon(self, *hosts: str, environment: Mapping[str, str] | None = None) -> Process:
        """Starts noid on hosts at the same time, and waits until it answers on each.

        Args:
            hosts: the hosts.
            environment: variables it has besides ours.

        Raises:
            PlatformError: it cannot start, for the reason it gives itself.
        """
        settings = (f"{name}={value}" for name, value in (environment or {}).items())
        run = ["env", *settings, sys.executable, "-m", "noid", "run", "--config"]
        begun = [
            self.spawn(one, [*run, str(self._config(one))], name=f"noid-{one}") for one in hosts
        ]
        for host, one in zip(hosts, begun, strict=True):
            await_ready(one, f"noid answers on {host}", partial(answers, self.control_socket(host)))
        return begun[0]

    def await_taken_up(self, *hosts: str) -> None:
        """Waits until noid on hosts has restored the contexts of an earlier daemon.

        Raises:
            PlatformError: it has not in time.
        """

        def is_done() -> bool:
            return all(self.status(host)["taking_up"] is None for host in hosts)

        wait_for("noid has restored its contexts", is_done, RUN_TIMEOUT_S)

    def stop_daemon(self, *hosts: str) -> None:
        """Ends noid on hosts, at the same time.

        Raises:
            PlatformError: it cannot be ended.
        """
        self._end_daemons(hosts, kill=False)

    def kill_daemon(self, host: str) -> None:
        """Kills noid on a host, as ``kill -9`` does.

        Raises:
            PlatformError: it cannot be ended.
        """
        self._end_daemons([host], kill=True)

    def _end_daemons(self, hosts: Sequence[str], *, kill: bool) -> None:
        names = {f"noid-{host}" for host in hosts}
        daemons = [one for one in processes.read_records(self._records) if one.name in names]
        processes.end_processes(daemons, grace_s=processes.DAEMON_GRACE_S, kill=kill)
        for child in self._children:
            child.popen.poll()

    def take_noid_down(self, host: str) -> None:
        """Ends noid on a host, and removes what its plane leaves in the kernel.

        Raises:
            PlatformError: something would not go.
        """
        self.stop_daemon(host)
        command = [sys.executable, "-m", "noid", "down", "--config"]
        done = self.run(host, [*command, str(self._config(host))])
        if done.returncode != 0:
            raise PlatformError(f"noid down on {host}", done.returncode, done.stderr.strip())

    def control_socket(self, host: str) -> Path:
        """The control socket of noid on a host, or of a border."""
        return self.directory / f"{host}.sock"

    def environment(self, node: str) -> dict[str, str]:
        """Variables by which commands of noid on a node find its daemon, if it has one."""
        if self.plane != "none" and node in topology.BORDERS:
            return {"NOID_BORDER_SOCKET": str(self.control_socket(node))}
        if self.plane == "none" or node not in topology.HOSTS:
            return {}
        return {
            "NOID_CONFIG": str(self._config(node)),
            "NOID_SOCKET": str(self.control_socket(node)),
        }

    def configure(self, host: str, text: str) -> None:
        """Gives noid on a host another configuration, and makes it read that.

        Args:
            host: the host.
            text: of the file; ``configuration.noid_toml`` has the usual one.

        Raises:
            PlatformError: noid does not take it.
        """
        self._config(host).write_text(text, encoding="utf-8")
        ask(self.control_socket(host), "reload")

    def contexts(self, host: str) -> list[dict[str, Any]]:
        """The contexts noid holds on a host; none where there is no noid.

        Raises:
            PlatformError: noid should answer and does not.
        """
        if self.plane == "none":
            return []
        return list(ask_rows(self.control_socket(host), "contexts"))

    def status(self, host: str) -> dict[str, Any]:
        """The status of noid on a host; PlatformError if it does not answer."""
        answer: dict[str, Any] = ask(self.control_socket(host), "status")
        return answer

    def log(self, host: str) -> str:
        """The log of noid on a host since the lab was built."""
        path = self._log_path(f"noid-{host}")
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def wait_for(self, description: str, condition: Callable[[], Found], timeout_s: float) -> Found:
        """Waits until a condition holds, and returns its value.

        Raises:
            PlatformError: it did not hold in time; the description says what.
        """
        return wait_for(description, condition, timeout_s)

    # --- building ---------------------------------------------------------------------------------

    @property
    def _records(self) -> Path:
        return self.directory / "processes"

    def _config(self, host: str) -> Path:
        return self.directory / f"{host}.toml"

    def _log_path(self, name: str) -> Path:
        return self.directory / "logs" / f"{name}.log"

    def _build(self) -> None:
        namespaces.create(self.name, self.plan)
        for link in self.plan.links:
            if link.kind == "tun":
                self._join_tunnel(link)
        namespaces.configure(self.name, self.plan)
        for node in self.plan.nodes:
            is_shimmed = self.plane != "none" and node in topology.HOSTS
            files = {
                "resolv.conf": configuration.resolv_conf("::1" if is_shimmed else NAME_SERVER),
                "nsswitch.conf": configuration.nsswitch_conf(),
                "gai.conf": "",
                "hosts": "::1 localhost\n",
            }
            namespaces.write_etc(self.name, node, files)
        self._start_servers()
        if self.plane in ("auto", "bpf"):
            # What is mounted in the namespace of one program would go with that program.
            prepare_pins(self.directory / inventory.PINS)
            namespaces.mount_groups(self.directory / inventory.GROUPS)
        if self.plane != "none":
            for host in topology.HOSTS:
                text = configuration.noid_toml(host, self.directory, self.plane)
                self._config(host).write_text(text, encoding="utf-8")
            self.start_daemon(*topology.HOSTS)
            self._settle_plane()

    def _join_tunnel(self, link: Link) -> None:
        """Starts the program that joins two TUN devices to a link."""
        (left, left_interface), (right, right_interface) = link.left, link.right
        ends = [namespaces.namespace(self.name, left), left_interface]
        ends += [namespaces.namespace(self.name, right), right_interface]
        arguments = [sys.executable, "-m", "noid.lab.wire", *ends]
        process = self.spawn(left, arguments, name=f"wire-{left}-{left_interface}")
        await_ready(process, "the tunnel is up", lambda: "up" in process.output())

    def _settle_plane(self) -> None:
        """Records the plane that the hosts selected, if they were to select it."""
        if self.plane == "auto":
            self.plane = self.status(topology.HOSTS[0])["plane"]["kind"]
            self.description = msgspec.structs.replace(self.description, plane=self.plane)
            inventory.write_description(self.description)

    def _start_servers(self) -> None:
        arguments = servers.prepare_name_server(self.directory / "dns")
        nsd = self.spawn("dns", [find_program("nsd"), *arguments], name="nsd")
        arguments = servers.prepare_web_server(self.directory / "web")
        nginx = self.spawn("b", [find_program("nginx"), *arguments], name="nginx")
        await_ready(nsd, "nsd answers on dns", lambda: servers.name_server_answers(self.name))
        await_ready(nginx, "nginx answers on b", lambda: servers.web_server_answers(self.name))
