# SPDX-License-Identifier: MIT
"""Plays tests before mutants, each in a fork of a process that has imported and collected all.

A plug-in of pytest: its loop of tests. The first fork plays all tests, and measures which lines
each executes. Each other fork takes the code of one function from a mutant, and plays the tests
that execute the changed lines, the shortest first, until one fails. So code that runs when a module
is imported is not changed.
"""

import enum
import gc
import importlib
import os
import pickle
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Final, NamedTuple

import coverage
import pytest
from _pytest.runner import pytest_sessionfinish

from tests.mutation.mutants import ROOMS, SOURCE, Mutant

MEMORY_OCTETS_MAX: Final = 6_000_000_000
PROCESSOR_S_MAX: Final = 5.0
"""Of any test; in addition to four times what it took without a mutant."""
PROCESSOR_S_GIVEN: Final = 600.0
"""Of a test that was not played without a mutant."""
LIMIT_S: Final = 60.0
"""Of any fork, for tests that wait; in addition to four times what all took."""
GRACE_S: Final = 10.0
"""For what a test that takes too long has to remove."""
SIMPLE: Final = (int, str, bytes, type(None))


class Verdict(enum.Enum):
    """What came of a mutant."""

    KILLED = "killed"
    TIMED_OUT = "timed out"
    SURVIVED = "survived"
    UNTESTED = "not executed by a test"
    REJECTED = "rejected by the type checker"


class Played(NamedTuple):
    """What the tests do without a mutant.

    Attributes:
        tests: the indices of those that execute a line, by path and line.
        seconds: how long each takes.
        processor_s: of that, how long it computes.
        failed: those that fail without a mutant.
    """

    tests: dict[tuple[str, int], set[int]]
    seconds: list[float]
    processor_s: list[float]
    failed: set[int]


class Player:
    """The plug-in.

    Args:
        mutants: in the order in which they are played.
        report: is given each mutant with its verdict, and the test that noticed it.
        chooses: if only tests are played that execute the changed lines; else all, in their order.
    """

    def __init__(
        self,
        mutants: Sequence[Mutant],
        report: Callable[[Mutant, Verdict, str], None],
        *,
        chooses: bool,
    ) -> None:
        self._mutants = mutants
        self._report = report
        self._chooses = chooses

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Plays all tests, and then each mutant."""
        if session.testsfailed:
            return True
        played = _measured(session) if self._chooses else None
        for mutant in self._mutants:
            self._report(mutant, *_play(session, played, mutant))
        return True


def _measured(session: pytest.Session) -> Played:
    _, played = _forked(lambda: _measure(session), None)
    assert isinstance(played, Played), "the tests without a mutant have not ended"
    for index in sorted(played.failed):
        print(f"fails without a mutant, and is left out: {session.items[index].nodeid}")
    print(f"{len(played.seconds)} tests take {sum(played.seconds):.0f} s", flush=True)
    return played


def _measure(session: pytest.Session) -> Played:
    """Plays all tests; which lines each executes."""
    covered = coverage.Coverage(
        data_file=None, config_file=False, include=[f"{SOURCE / room}/*" for room in ROOMS]
    )
    covered.start()
    seconds, processor_s, failed = [], [], set()
    for index, item in enumerate(session.items):
        covered.switch_context(str(index))
        before, began_s, computed_s = session.testsfailed, time.monotonic(), time.process_time()
        _run(item, session.items[index + 1] if index + 1 < len(session.items) else None)
        seconds.append(time.monotonic() - began_s)
        processor_s.append(time.process_time() - computed_s)
        if session.testsfailed > before:
            failed.add(index)
    covered.stop()
    data = covered.get_data()
    tests = {
        (str(Path(name).relative_to(SOURCE.resolve())), line): {int(one) for one in found if one}
        for name in data.measured_files()
        for line, found in data.contexts_by_lineno(name).items()
    }
    return Played(tests, seconds, processor_s, failed)


def _play(session: pytest.Session, played: Played | None, mutant: Mutant) -> tuple[Verdict, str]:
    if not mutant.is_typed:
        return Verdict.REJECTED, ""
    limits_s = dict.fromkeys(session.items, PROCESSOR_S_GIVEN)
    limit_s = None
    if played is not None:
        places = ((str(mutant.path), line) for line in mutant.lines)
        chosen = set().union(*(played.tests.get(place, ()) for place in places)) - played.failed
        order = sorted(chosen, key=lambda index: played.seconds[index])
        limits_s = {
            session.items[index]: PROCESSOR_S_MAX + 4 * played.processor_s[index] for index in order
        }
        limit_s = LIMIT_S + 4 * sum(played.seconds[index] for index in order)
    if not limits_s:
        return Verdict.UNTESTED, ""
    in_time, failed = _forked(lambda: _first_failure(session, mutant, limits_s), limit_s)
    if failed is None or not in_time:
        return Verdict.TIMED_OUT, ""
    return (Verdict.SURVIVED, "") if failed == "" else (Verdict.KILLED, str(failed))


def _first_failure(
    session: pytest.Session, mutant: Mutant, limits_s: Mapping[pytest.Item, float]
) -> str:
    """The first test that fails before a mutant, or nothing; each has a limit of processor time."""
    plant(mutant)
    items = [*limits_s]
    for item, following in zip(items, [*items[1:], None], strict=True):
        signal.setitimer(signal.ITIMER_VIRTUAL, limits_s[item])  # ends the process
        try:
            _run(item, following)
        except (KeyboardInterrupt, SystemExit, pytest.exit.Exception):
            session.testsfailed += 1
        if session.testsfailed:
            pytest_sessionfinish(session)  # ends the fixtures
            return item.nodeid
    return ""


def _run(item: pytest.Item, following: pytest.Item | None) -> None:
    item.ihook.pytest_runtest_protocol(item=item, nextitem=following)


def plant(mutant: Mutant) -> None:
    """Gives a function the code of a mutant, wherever it has been imported to."""
    name = ".".join(mutant.path.with_suffix("").parts)
    module = importlib.import_module(name)
    other = ModuleType(name)
    other.__file__ = module.__file__
    exec(compile(mutant.text, str(module.__file__), "exec"), vars(other))
    old, new = _function(module, mutant.function), _function(other, mutant.function)
    _replace_inner(old.__code__, new.__code__)
    old.__code__ = new.__code__
    if all(isinstance(one, SIMPLE) for one in new.__defaults__ or ()):
        old.__defaults__ = new.__defaults__
    for key, value in (new.__kwdefaults__ or {}).items():
        if isinstance(value, SIMPLE) and old.__kwdefaults__ is not None:
            old.__kwdefaults__[key] = value


def _replace_inner(old: CodeType, new: CodeType) -> None:
    """Gives functions that one has made already, such as a codec, the code of a mutant, too."""
    pairs = zip(_inner(old), _inner(new), strict=False)
    changed = {one: other for one, other in pairs if one.co_freevars == other.co_freevars}
    if changed:
        for made in gc.get_objects():
            if isinstance(made, FunctionType) and made.__code__ in changed:
                made.__code__ = changed[made.__code__]


def _inner(code: CodeType) -> list[CodeType]:
    return [one for one in code.co_consts if isinstance(one, CodeType)]


def _function(module: ModuleType, name: str) -> FunctionType:
    found: object = module
    for part in name.split("."):
        found = vars(found)[part]
    found = getattr(found, "__func__", found)
    assert isinstance(found, FunctionType), name
    return found


def _forked(task: Callable[[], object], limit_s: float | None) -> tuple[bool, object]:
    """Whether a task ended in time in a fork, and what it returned; None if a signal ended it."""
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as said:
        pid = os.fork()
        if not pid:
            status = 1
            try:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                resource.setrlimit(resource.RLIMIT_AS, (MEMORY_OCTETS_MAX, MEMORY_OCTETS_MAX))
                pickle.dump(task(), answer)
                answer.flush()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        in_time = _wait(pid, limit_s)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        answer.seek(0)
        said.seek(0)
        if status > 0:
            raise RuntimeError(said.read().decode(errors="replace"))
        return in_time, None if status else pickle.load(answer)


def _wait(pid: int, limit_s: float | None) -> bool:
    """Waits for the end of a process, which gets signals after some time; if it needed none."""
    handle = os.pidfd_open(pid)
    try:
        for seconds, number in ((limit_s, signal.SIGTERM), (GRACE_S, signal.SIGKILL)):
            if select.select([handle], [], [], seconds)[0]:
                return number == signal.SIGTERM
            os.kill(pid, number)
        return False
    finally:
        os.close(handle)
