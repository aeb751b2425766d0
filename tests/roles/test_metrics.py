# SPDX-License-Identifier: MIT
"""Metrics as OpenMetrics: names by convention, no more labels than uplinks, read by Prometheus."""

import asyncio
import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from noid.control.uplink_reports import uplink_report
from noid.control.uplinks import UPLINKS_MAX, Sighting, Uplinks
from noid.counters import BorderCounter, CounterName, counter_report
from noid.errors import PlatformError
from noid.lab.resolution import free_port
from noid.locators import parse_locator
from noid.roles.metrics import (
    PLAIN_TYPE,
    BorderFacts,
    Facts,
    MetricsServer,
)

CONTRIB = Path(__file__).parent.parent.parent / "contrib"
OCTETS_MAX = 1_000_000
WAIT_S = 60
ANY = b"GET /metrics HTTP/1.1\r\nHost: localhost"


def status() -> dict[str, Any]:
    report: dict[str, Any] = {"version": "1", "contexts": {"established": 100_000}}
    report["state"] = {"trouble": ["history.sqlite is damaged", "uplinks.json is damaged"]}
    report["plane"] = {"fallback": True}
    for kind in CounterName.__subclasses__():
        inner = report
        for key in kind.path[:-1]:
            inner = inner.setdefault(key, {})
        inner[kind.path[-1]] = counter_report(kind, {})
    return report


def paths() -> dict[str, Any]:
    uplinks = Uplinks()
    uplinks.see(
        [
            Sighting(
                f"up{n}", is_up=True, carries=True, locators=(parse_locator(f"2001:db8:{n:x}::1"),)
            )
            for n in range(1, UPLINKS_MAX + 1)
        ],
        1.0,
    )
    uplinks.lose("up1", is_up=True, now_s=2.0)
    uplinks.by_name["up2"].preference = "avoid"
    reports = [uplink_report(one, {}, {}) for one in uplinks.by_name.values()]
    return {"now": 1.0, "uplinks": reports}


def of_a_border() -> dict[str, Any]:
    providers = [
        {"provider": "one", "uplink": "wan1", "works": False},
        {"provider": "two", "uplink": "wan2", "works": True},
    ]
    return {
        "version": "1",
        "providers": providers,
        "prefixes": [
            {"prefix": "2001:db8:1::/48", "leaves_by": "two"},
            {"prefix": "2001:db8:2::/48", "leaves_by": ""},
        ],
        "switches": 7,
        "restored": 0,
        "troubles": ["lans: there is no device lan9"],
        "counters": counter_report(BorderCounter, {BorderCounter.PACKETS_REWRITTEN: 11}),
    }


def parsed(text: str) -> list[Metric]:
    return list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call] # no types


def served(use: Callable[[int], None]) -> None:
    """Lets a thread use the port of a server."""

    async def play() -> None:
        server = MetricsServer("[::1]:0", Facts(status, paths))
        await server.start()
        await asyncio.to_thread(use, server.port)
        await server.stop()

    asyncio.run(play())


def fetched(port: int, path: str = "/metrics") -> str:
    accept = {"Accept": "text/html, Application/OpenMetrics-Text;version=1.0.0;q=0.5"}
    request = urllib.request.Request(f"http://[::1]:{port}{path}", headers=accept)
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        text: str = answer.read().decode()
        return text


def test_metrics_are_openmetrics_with_every_counter_and_stay_small() -> None:
    text = MetricsServer("[::1]:0", Facts(status, paths)).text().decode()
    families = {one.name: one for one in parsed(text)}
    for kind in CounterName.__subclasses__():
        for counter in kind:
            assert families[counter.metric.removesuffix("_total")].type == "counter"
    labels = {
        label for one in families.values() for sample in one.samples for label in sample.labels
    }
    assert labels <= {"uplink", "state", "preference", "version"}
    wanted = [one.labels for one in families["noid_uplink_preference"].samples if one.value]
    assert wanted == [{"uplink": "up2", "preference": "avoid"}]
    down = [
        s for s in families["noid_uplink_state"].samples if s.value and s.labels["state"] == "down"
    ]
    assert [sample.labels["uplink"] for sample in down] == ["up1"]
    assert [one.value for one in families["noid_plane_fallback"].samples] == [1]
    assert len(text) < OCTETS_MAX


@pytest.mark.parametrize("is_open", [False, True])
def test_the_name_of_a_device_may_have_any_octets(is_open: bool) -> None:
    reports = paths()
    reports["uplinks"][0]["uplink"] = "up\udcff\n"
    server = MetricsServer("[::1]:0", Facts(status, lambda: reports))
    assert rb'uplink="up\\udcff\\n"' in server.text(is_open=is_open)


def test_a_border_says_what_works_and_where_prefixes_leave() -> None:
    text = MetricsServer("[::1]:0", BorderFacts(of_a_border)).text().decode()
    families = {one.name: one for one in parsed(text)}

    def values(name: str, *labels: str) -> list[tuple[Any, ...]]:
        return [
            (*(one.labels[label] for label in labels), one.value) for one in families[name].samples
        ]

    works = values("noid_border_provider_works", "provider", "uplink")
    assert works == [("one", "wan1", 0), ("two", "wan2", 1)]
    leaves = values("noid_border_leaves_by", "prefix", "provider")
    assert [one for one in leaves if one[-1]] == [("2001:db8:1::/48", "two", 1)]
    assert values("noid_border_switches") == [(7,)]
    assert values("noid_border_troubles") == [(1,)]
    assert values("noid_border_packets_rewritten") == [(11,)]
    assert {one.metric.removesuffix("_total") for one in BorderCounter} <= families.keys()
    assert not [name for name in families if name.startswith("noid_plane")]


@pytest.mark.parametrize("facts", [Facts(status, paths), BorderFacts(of_a_border)])
def test_who_does_not_accept_openmetrics_gets_what_promtool_takes(facts: Collector) -> None:
    async def play() -> None:
        server = MetricsServer("[::1]:0", facts)
        await server.start()
        text = await asyncio.to_thread(curl, server.port)
        words = ["promtool", "check", "metrics"]
        checked = await asyncio.to_thread(subprocess.run, words, input=text, capture_output=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        await server.stop()

    asyncio.run(play())


def curl(port: int) -> bytes:
    """What a client gets that accepts anything, as curl does."""
    request = urllib.request.Request(f"http://[::1]:{port}/metrics", headers={"Accept": "*/*"})
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
        assert answer.headers["Content-Type"] == PLAIN_TYPE
        return bytes(answer.read())


def test_a_port_in_use_is_refused_with_a_remedy() -> None:
    def use(port: int) -> None:
        with pytest.raises(PlatformError, match=r"set metrics\.listen"):
            asyncio.run(MetricsServer(f"[::1]:{port}", Facts(status, paths)).start())

    served(use)


@pytest.mark.slow
def test_prometheus_takes_the_metrics_and_the_alerts(tmp_path: Path) -> None:
    rules = CONTRIB / "prometheus" / "noid.rules.yml"
    checked = subprocess.run(["promtool", "check", "rules", str(rules)], capture_output=True)
    assert checked.returncode == 0, checked.stderr

    def use(port: int) -> None:
        config = tmp_path / "prometheus.yml"
        config.write_text(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\n"
            f"rule_files: ['{rules}']\n"
            f"scrape_configs:\n- job_name: noid\n  static_configs:\n  - targets: ['[::1]:{port}']\n"
        )
        web = free_port()
        words = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/data"]
        with (tmp_path / "log").open("wb") as log:
            prometheus = subprocess.Popen(
                [*words, f"--web.listen-address=[::1]:{web}"], stdout=log, stderr=log
            )
            try:
                assert asked(web, 'noid_uplink_state{state="down"} == 1') == ["up1"]
                assert asked(web, 'ALERTS{alertname="NoidUplinkDown"}') == ["up1"]
            finally:
                prometheus.terminate()
                prometheus.wait()

    served(use)


def asked(port: int, expression: str) -> list[str]:
    """The uplinks of a query's results, once there are any."""
    query = urllib.parse.urlencode({"query": expression})
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s:
        try:
            url = f"http://[::1]:{port}/api/v1/query?{query}"
            with urllib.request.urlopen(url, timeout=WAIT_S) as answer:
                found = json.load(answer)["data"]["result"]
        except OSError:
            found = []
        if found:
            return [one["metric"]["uplink"] for one in found]
        time.sleep(0.1)
    raise AssertionError(expression)


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    text = MetricsServer("[::1]:0", Facts(status, paths)).text().decode()
    text += MetricsServer("[::1]:0", BorderFacts(of_a_border)).text().decode()
    known = set(re.findall(r"^(noid_\w+)[{ ]", text, re.MULTILINE))
    declared = set(re.findall(r"^# TYPE (noid_\w+) (?:gauge|counter)", text, re.MULTILINE))
    known |= declared | {f"{name}_total" for name in declared}
    for page in (CONTRIB / "grafana" / "noid.json", CONTRIB / "prometheus" / "noid.rules.yml"):
        used = set(re.findall(r"\bnoid_\w+", page.read_text(encoding="utf-8")))
        assert used
        assert used <= known, page
    json.loads((CONTRIB / "grafana" / "noid.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("page", "facts"),
    [("monitoring.md", Facts(status, paths)), ("border.md", BorderFacts(of_a_border))],
)
def test_the_pages_name_every_metric_that_is_no_counter_of_the_table(
    page: str, facts: Collector
) -> None:
    text = (CONTRIB.parent / "docs" / page).read_text(encoding="utf-8")
    counters = {one.metric for kind in CounterName.__subclasses__() for one in kind}
    for family in facts.collect():
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        assert name in counters or f"`{name}`" in text, name


def test_counters_of_another_role_are_left_out() -> None:
    def of_a_host() -> dict[str, Any]:
        return {**status(), "dropped": {}}

    text = MetricsServer("[::1]:0", Facts(of_a_host, paths)).text().decode()
    assert "noid_plane_" in text
    assert "noid_dropped_" not in text
