# SPDX-License-Identifier: MIT
"""Metrics over HTTP: uplinks and counters, never peers, so that the answer stays small.

Who accepts OpenMetrics gets that, others the text format of Prometheus.

One answer is made at a time, on the daemon's own loop, from what ``noid status`` and ``noid paths``
say. A request at a loopback address names the host by an address or as ``localhost``: a browser of
this host sends any other name for a page whose DNS points here. Needs ``prometheus-client``: the
extra ``metrics``.
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from prometheus_client import exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector, CollectorRegistry

from noid.control.admission import Admission
from noid.control.prompt import PromptListener, send_now
from noid.control.uplinks import Health
from noid.control.web.server import is_ours
from noid.counters import CounterName
from noid.errors import PlatformError
from noid.text import printable

REQUEST_OCTETS_MAX: Final = 8_192
REQUEST_WAIT_S: Final = 5.0
"""How long a request may take to come, and its answer to go."""
KEPT_S: Final = 0.1
"""How long the same text is an answer at least."""
KEPT_TIMES: Final = 9
"""How often as long as it took to make, up to KEPT_MAX_S: texts of both formats together take a
tenth of the daemon's time, or one of each is made each second. Any user of this host may ask
without a pause."""
KEPT_MAX_S: Final = 1.0
"""How long the same text is an answer at most, also while the daemon waits for a processor; twice
as long while clients ask for both formats."""
CLIENTS_MAX: Final = 8
"""Connections at one time, shared between clients; one more of the largest client is refused."""
HEAD_END: Final = b"\r\n\r\n"
BACKLOG: Final = 100
"""The maximum of clients that wait to be accepted."""
OPEN_METRICS: Final = "application/openmetrics-text"
PLAIN_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PATHS: Final = frozenset({b"/", b"/metrics"})
MICROSECONDS: Final = 1_000_000

Ask = Callable[[], dict[str, Any]]
PREFERENCES: Final = ("use", "avoid")
UPLINK_GAUGES: Final = (
    ("contexts", "contexts that send by the uplink", "contexts", 1),
    ("since_timestamp_seconds", "since when the uplink is in its state", "since", 1),
    ("round_trip_seconds", "round trip over the uplink", "round_trip_us", MICROSECONDS),
    ("loss_ratio", "share of lost measurements over the uplink", "loss", 1),
)
UPLINK_COUNTERS: Final = (
    ("received_bytes", "octets that the interface has received", "received_octets"),
    ("sent_bytes", "octets that the interface has sent", "sent_octets"),
    ("switches_from", "switches of contexts away from the uplink", "switches_from"),
    ("switches_to", "switches of contexts to the uplink", "switches_to"),
)


class Facts(Collector):
    """What there is to say.

    Args:
        status: as ``noid status --json``.
        paths: as ``noid paths --json``.
    """

    def __init__(self, status: Ask, paths: Ask) -> None:
        self.status = status
        self.paths = paths

    def collect(self) -> Iterator[Metric]:
        """Every metric; those of the daemon alone while it starts."""
        status = self.status()
        if "error" in status:
            return
        yield InfoMetricFamily("noid", "the daemon", value={"version": status["version"]})
        contexts = GaugeMetricFamily("noid_contexts", "contexts", labels=["state"])
        for state, count in status["contexts"].items():
            contexts.add_metric([state], count)
        yield contexts
        yield GaugeMetricFamily(
            "noid_state_troubles", "problems of the state files", len(status["state"]["trouble"])
        )
        yield GaugeMetricFamily(
            "noid_plane_fallback",
            "1 if packets take the TUN plane because the kernel plane is not available",
            status["plane"]["fallback"],
        )
        yield from _counters(status)
        yield from _uplinks(self.paths()["uplinks"])


def _counters(status: dict[str, Any]) -> Iterator[Metric]:
    """Every counter of this daemon; those of other roles are not in its status."""
    for kind in CounterName.__subclasses__():
        counts: Any = status
        for key in kind.path:
            counts = counts.get(key, {})
        for counter in kind:
            if counter.identifier in counts:
                name = counter.metric.removesuffix("_total")
                yield CounterMetricFamily(name, counter.description, counts[counter.identifier])


def _uplinks(reports: list[dict[str, Any]]) -> Iterator[Metric]:
    # The name of a device may have octets that are not UTF-8, which a text of metrics cannot have.
    uplinks = [{**one, "uplink": printable(one["uplink"])} for one in reports]
    states = GaugeMetricFamily(
        "noid_uplink_state", "1 for the state of the uplink", labels=["uplink", "state"]
    )
    for one in uplinks:
        for state in Health:
            states.add_metric([one["uplink"], state.value], one["state"] == state.value)
    yield states
    wanted = GaugeMetricFamily(
        "noid_uplink_preference",
        "1 for what the operator wants of the uplink: noid use, noid avoid",
        labels=["uplink", "preference"],
    )
    for one in uplinks:
        for preference in PREFERENCES:
            wanted.add_metric([one["uplink"], preference], one["preference"] == preference)
    yield wanted
    for name, text, key, divisor in UPLINK_GAUGES:
        gauge = GaugeMetricFamily(f"noid_uplink_{name}", text, labels=["uplink"])
        for one in uplinks:
            if one[key] is not None:
                gauge.add_metric([one["uplink"]], one[key] / divisor)
        yield gauge
    for name, text, key in UPLINK_COUNTERS:
        counter = CounterMetricFamily(f"noid_uplink_{name}", text, labels=["uplink"])
        for one in uplinks:
            counter.add_metric([one["uplink"]], one[key])
        yield counter


class BorderFacts(Collector):
    """What there is to say of a border.

    Args:
        status: as ``noid border status --json``.
    """

    def __init__(self, status: Ask) -> None:
        self.status = status

    def collect(self) -> Iterator[Metric]:
        """Every metric."""
        status = self.status()
        yield InfoMetricFamily("noid", "the daemon", value={"version": status["version"]})
        works = GaugeMetricFamily(
            "noid_border_provider_works",
            "1 if packets may leave by the uplink to the provider",
            labels=["provider", "uplink"],
        )
        for one in status["providers"]:
            works.add_metric([one["provider"], one["uplink"]], one["works"])
        yield works
        leaves = GaugeMetricFamily(
            "noid_border_leaves_by",
            "1 for the provider by which rewritable packets of the prefix leave",
            labels=["prefix", "provider"],
        )
        for row in status["prefixes"]:
            for one in status["providers"]:
                labels = [row["prefix"], one["provider"]]
                leaves.add_metric(labels, one["provider"] == row["leaves_by"])
        yield leaves
        for name, text, count in (
            ("switches", "changes of the choice of uplinks", status["switches"]),
            ("rules_restored", "rules restored that others had changed", status["restored"]),
        ):
            yield CounterMetricFamily(f"noid_border_{name}", text, count)
        yield GaugeMetricFamily(
            "noid_border_troubles", "what is wrong on the router", len(status["troubles"])
        )
        yield from _counters(status)


class MetricsServer:
    """Answers HTTP requests for the metrics.

    Args:
        listen: address and port, such as ``[::1]:9469``.
        facts: what there is to say.
        wait_s: how long a request may take to come, and its answer to go.
    """

    def __init__(self, listen: str, facts: Collector, *, wait_s: float = REQUEST_WAIT_S) -> None:
        self.listen = listen
        self.wait_s = wait_s
        host, _, port = listen.rpartition(":")
        self._place = host.strip("[]"), int(port)
        self._is_local = ipaddress.ip_address(self._place[0]).is_loopback
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(facts)
        self.clients = Admission(CLIENTS_MAX)
        self._made: dict[bool, bytes] = {}
        self._kept_until_s = self._spent_s = 0.0
        self.listener: PromptListener | None = None

    async def start(self) -> None:
        """Opens the port.

        Raises:
            PlatformError: it cannot be opened.
        """
        try:
            listening = _listening(*self._place)
        except OSError as error:
            raise PlatformError(
                f"metrics on {self.listen}",
                error.errno or 0,
                f"{error.strerror}; set metrics.listen to an address and a port that are free",
            ) from None
        self.listener = PromptListener(listening, self._answer_now, self._serve, REQUEST_OCTETS_MAX)

    @property
    def port(self) -> int:
        """The port that is open."""
        assert self.listener is not None
        return int(self.listener.listener.getsockname()[1])

    async def stop(self) -> None:
        """Closes the port."""
        if self.listener is not None:
            self.listener.close()

    def text(self, *, is_open: bool = True) -> bytes:
        """The metrics as OpenMetrics, or in the text format of Prometheus."""
        if is_open:
            made = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call] # no types
            return bytes(made)
        return exposition.generate_latest(self.registry)

    def _kept_text(self, *, is_open: bool) -> bytes:
        """The metrics of a moment ago: who asks all the time takes little time of the daemon.

        Each format is made once until the kept time is over, which is that of both together.
        """
        began_s = time.monotonic()
        if began_s >= self._kept_until_s:
            self._made.clear()
            self._spent_s = 0.0
        if is_open not in self._made:
            self._made[is_open] = self.text(is_open=is_open)
            ended_s = time.monotonic()
            self._spent_s += ended_s - began_s
            kept_s = min(max(KEPT_S, KEPT_TIMES * self._spent_s), KEPT_MAX_S)
            self._kept_until_s = ended_s + kept_s
        return self._made[is_open]

    def _answer_now(self, connection: socket.socket) -> bytes | None:
        """Answers a request that is there; returns what could not be sent, None if it is over."""
        try:
            head, end, _ = connection.recv(REQUEST_OCTETS_MAX, socket.MSG_PEEK).partition(HEAD_END)
            if not end:
                return b""  # the stream reads the rest
            connection.recv(len(head) + len(end))
        except OSError:
            return b""
        return send_now(connection, self._answer(head)) or None

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, owed: bytes
    ) -> None:
        if not self.clients.enter(writer):
            writer.write(_response("503 Service Unavailable", b"too many clients\n"))
            writer.close()
            return
        writer.transport.set_write_buffer_limits(0)  # drain() waits until the system has it all
        try:
            async with asyncio.timeout(self.wait_s):
                writer.write(owed or self._answer(await reader.readuntil(HEAD_END)))
                await writer.drain()
        except (OSError, ValueError, EOFError, asyncio.LimitOverrunError):
            writer.transport.abort()  # else it would stay open until the client reads
        finally:
            self.clients.leave(writer)
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        first, *fields = head.split(b"\r\n")
        words = first.split()
        if self._is_local and not all(map(is_ours, _values(fields, "host"))):
            return _response("403 Forbidden", b"name this host by its address, or as localhost\n")
        if len(words) < 2 or words[0] != b"GET":
            return _response("405 Method Not Allowed", b"GET alone\n")
        if words[1].partition(b"?")[0] not in PATHS:
            return _response("404 Not Found", b"see /metrics\n")
        accepted = ",".join(_values(fields, "accept")).lower().split(",")
        is_open = any(map(_is_open_metrics, accepted))
        kind = openmetrics.CONTENT_TYPE_LATEST if is_open else PLAIN_TYPE
        return _response("200 OK", self._kept_text(is_open=is_open), kind)


def _listening(address: str, port: int) -> socket.socket:
    """A socket that listens there and does not block."""
    ((family, kind, _, _, place), *_) = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )
    listening = socket.socket(family, kind)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.setblocking(False)
        listening.bind(place)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _values(fields: list[bytes], wanted: str) -> list[str]:
    """The values of the fields of a request that have a name."""
    split = (one.decode("latin-1").partition(":") for one in fields)
    return [value.strip() for name, _, value in split if name.strip().lower() == wanted]


def _is_open_metrics(accepted: str) -> bool:
    """Whether an element of an Accept field asks for OpenMetrics; a weight of 0 refuses it."""
    kind, *parameters = (one.strip() for one in accepted.split(";"))
    weights = [one[2:] for one in parameters if one.startswith("q=")]
    return kind == OPEN_METRICS and all(one.strip("0.") for one in weights)


def _response(status: str, body: bytes, kind: str = "text/plain; charset=utf-8") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body
