# SPDX-License-Identifier: MIT
"""How the tests run: hypothesis, workers and what they leave when killed, and what a skip means."""

import os
import signal
import sys
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile(
    "deep", deadline=None, max_examples=5000, suppress_health_check=[HealthCheck.too_slow]
)
# To find one failing example is enough, however long it is.
settings.register_profile(
    "mutation", settings.get_profile("ci"), phases=(Phase.explicit, Phase.reuse, Phase.generate)
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

LONG = (
    *("packaging/test_deb.py", "guide/test_recipes.py", "packaging/test_units.py"),
    *("lab/test_visible.py", "lab/test_transport.py", "lab/test_plain.py", "lab/test_clean_up.py"),
    *("lives/test_open_and_close.py", "bench/test_bench.py", "lab/test_doctor.py"),
    *("interop/test_alone.py", "setup/test_setup.py", "lab/test_border_takes_over.py"),
    *("guide/test_readme.py", "packaging/test_wheel.py", "lab/test_ordinary_hosts.py"),
    *("lab/test_border.py", "lab/test_rewriting.py", "lab/field/test_renumbering.py"),
    *("sweep", "reverts", "setup", "doctor/test_fixes.py", "lab/test_capture.py"),
    *("lab/test_sites.py", "guide", "sim_explore", "sim/test_outage.py", "lab", "interop"),
)
"""What takes longest begins first, so that at the end no process works while others have ended."""
WORKER = "worker-"
"""The beginning of the name of a file that says that a process runs tests for another (-n)."""


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As in the background of a shell: the programs that tests interrupt would ignore it, too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if _is_worker(config):
        (Path(config.option.basetemp).parent / f"{WORKER}{os.getpid()}").touch()
    else:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: nothing is left


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    long = [Path(__file__).parent / one for one in LONG]
    rank = cache(lambda path: [not path.is_relative_to(place) for place in long])
    items.sort(key=lambda item: rank(item.path))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Lets daemons of labs be forks, but for tests that are alone, such as to measure time."""
    if _is_worker(session.config) and "noid.lab.processes" in sys.modules:
        from tests.forked import fork_daemons

        fork_daemons()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Removes what workers have left that were killed; those that ended have left nothing."""
    if _is_worker(config) or os.geteuid() != 0:
        return
    factory = config._tmp_path_factory  # type: ignore[attr-defined] # not public
    directory: Path = factory.getbasetemp()
    # Imported here: the tests of defects start pytest very often, and need nothing of labs.
    from tests.leftovers import remove_leftovers

    if workers := {int(path.name.removeprefix(WORKER)) for path in directory.glob(f"{WORKER}*")}:
        remove_leftovers(workers, directory)


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """Restores the umask, which commands that run in this process set for all that follow."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With REQUIRE_ALL=1 a test that was skipped has failed: what it needs must be there."""
    report = yield
    if os.environ.get("REQUIRE_ALL") == "1" and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, and REQUIRE_ALL=1 forbids that: {report.longrepr}"
    return report
