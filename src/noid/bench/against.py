# SPDX-License-Identifier: MIT
"""One bench at this commit and at an earlier one by turns: ``noid bench NAME --against COMMIT``.

What else the machine does meets both. The earlier commit is built into a temporary directory, and
every turn is a process of its own, so that the earlier code needs to know nothing of all this.
"""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import noid
from noid.bench.report import Fact, Report, Series, Watch
from noid.errors import PlatformError, UsageError

OBJECT: Final = Path("noid/planes/bpf/programs/host.bpf.o")
SIDES: Final = ("now to then", "now", "then")
PREFIX: Final = "noid-bench-"
END_TIMEOUT_S: Final = 60.0
"""A turn that is interrupted removes its labs first."""


def compare(commit: str, name: str, options: Sequence[str], turns: int, watch: Watch) -> Report:
    """Runs a bench at both commits by turns.

    Args:
        commit: the earlier commit, as git knows it.
        name: of the bench.
        options: its options, the same for both.
        turns: how often each commit has a turn.
        watch: told how far it is.

    Raises:
        UsageError: there is no such commit, or noid runs outside its git repository.
        PlatformError: the commit cannot be built, or a turn fails.
    """
    now: list[dict[str, float]] = []
    then: list[dict[str, float]] = []
    with _built(commit) as earlier:
        sides = ((_source(), now), (earlier, then))
        for turn in range(turns):
            watch(turn, turns)
            for source, figures in sides if turn % 2 else reversed(sides):
                figures.append(figures_of(_run(source, name, options)))
    watch(turns, turns)
    facts: dict[str, Fact] = {"against": commit, "counted": "now to then, turn by turn"}
    series = ratios(now, then)
    return Report(series=series, facts=facts, table=table(series))


def figures_of(answer: dict[str, Any]) -> dict[str, float]:
    """The figures in the JSON of a bench: the medians, and the facts that are numbers.

    A figure of a row has the words of the row before its name.
    """
    found: dict[str, float] = {}
    for name, value in answer.items():
        if isinstance(value, dict) and "median" in value:
            found[name] = float(value["median"])
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = float(value)
    for row in answer.get("rows", ()):
        words = "_".join(value for value in row.values() if isinstance(value, str))
        found |= {f"{words}_{name}": figure for name, figure in figures_of(row).items()}
    return found


def ratios(now: Sequence[dict[str, float]], then: Sequence[dict[str, float]]) -> dict[str, Series]:
    """For each figure of both sides that is not a constant: now to then, and both.

    Args:
        now: the figures of this commit, turn by turn.
        then: those of the earlier one.
    """
    found: dict[str, Series] = {}
    for name in now[0]:
        ours = [turn[name] for turn in now if name in turn]
        theirs = [turn[name] for turn in then if name in turn]
        if len(ours) != len(theirs) or len({*ours, *theirs}) < 2:
            continue
        if all(theirs):
            quotients = (mine / other for mine, other in zip(ours, theirs, strict=True))
            found[f"{name}_now_to_then"] = Series(tuple(quotients))
        found[f"{name}_now"] = Series(tuple(ours))
        found[f"{name}_then"] = Series(tuple(theirs))
    return found


def table(series: dict[str, Series]) -> list[dict[str, str]]:
    """The ratios as text: a row for each figure.

    Args:
        series: what ``ratios`` gives.
    """
    names = [name.removesuffix("_now") for name in series if name.endswith("_now")]
    return [
        {
            "figure": name.replace("_", " "),
            **{side: _text(series.get(f"{name}_{side.replace(' ', '_')}")) for side in SIDES},
        }
        for name in names
    ]


def _text(series: Series | None) -> str:
    if series is None:
        return "-"
    spread = series.as_json()
    middle, least, most = (_number(spread[name]) for name in ("median", "min", "max"))
    return f"{middle} ({least}-{most})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


@contextlib.contextmanager
def _built(commit: str) -> Iterator[Path]:
    """The package of a commit, in a directory that Python finds it in."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        tree, site = Path(name, "tree"), Path(name, "site")
        _check_out(commit, tree)
        if _programs(tree) == _programs(_source().parent):
            shutil.copy(_source() / OBJECT, tree / "src" / OBJECT)
            yield tree / "src"
            return
        words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        words += ["--disable-pip-version-check", "--target", str(site), str(tree)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PlatformError(f"build {commit}", done.returncode, _last_line(done.stderr))
        yield site


def _programs(tree: Path) -> dict[str, bytes]:
    """What the object for the kernel is built from: where it is equal, so is the object."""
    paths = [tree / "hatch_build.py", *(tree / "src/noid/planes/bpf/programs").glob("*.[ch]")]
    return {path.name: path.read_bytes() for path in paths}


def _check_out(commit: str, tree: Path) -> None:
    repository = _source().parent
    if not (repository / ".git").exists():
        raise UsageError("--against needs noid's git repository; run noid from a clone of it")
    git = ["git", "-C", str(repository)]
    words = [*git, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}"]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise UsageError(f"--against {commit}: there is no such commit in {repository}")
    words = [*git, "archive", "--format=tar", found.stdout.strip()]
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode != 0:
        raise PlatformError("git archive", done.returncode, done.stderr.decode(errors="replace"))
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(tree, filter="data")


def _source() -> Path:
    """The directory this package is in."""
    return Path(noid.__file__).parent.parent


def _run(source: Path, name: str, options: Sequence[str]) -> dict[str, Any]:
    """One turn: the answer of a bench whose code is in a directory.

    Raises:
        PlatformError: it fails.
    """
    words = [sys.executable, "-m", "noid", "bench", name, *options, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    # Its own session: a Ctrl-C comes once, from us, and it has the time to remove its labs.
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=source,  # which Python searches first, here and in what the lab starts
        start_new_session=True,
    ) as process:
        try:
            out, complaint = process.communicate()
        except BaseException:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_TIMEOUT_S)
            process.kill()
            raise
    if process.returncode != 0:
        what = f"noid bench {name} of {source}"
        raise PlatformError(what, process.returncode, _last_line(complaint))
    answer: dict[str, Any] = json.loads(out)
    return answer


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]
