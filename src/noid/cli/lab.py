# SPDX-License-Identifier: MIT
"""``noid lab``: a network of hosts in network namespaces of this machine, and faults in it."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table

from noid.cli import lab_options
from noid.cli.leaves import add_group, add_json, add_leaf
from noid.cli.output import say
from noid.errors import UsageError
from noid.host.programs import find_program
from noid.lab import blackhole, inventory, machine, restart
from noid.lab.borders import start_borders
from noid.lab.demo import LINE_DIES, PROVIDER_DIES, demonstrate, table_of
from noid.lab.faults import FAULT_TEXTS, Fault
from noid.lab.interruption import interruptible
from noid.lab.lab import Lab
from noid.lab.router_scenarios import ROUTER_SCENARIOS
from noid.lab.scenarios import SCENARIOS, Talk, play
from noid.lab.site_play import Moved
from noid.lab.sites import SITES, SITES_TEXTS
from noid.lab.topology import ALL_NODES, HOSTS
from noid.lab.transfer import STALL_AFTER_S, Outcome, Run, Watch
from noid.lab.variants import VARIANT_TEXTS, VARIANTS
from noid.text import json_line

DOWNLOADS: Final = {blackhole.NAME: blackhole.run, restart.NAME: restart.run}
DOWNLOAD_TEXTS: Final = {
    blackhole.NAME: "provider 1 drops everything silently during a download",
    restart.NAME: "the same, after both daemons were killed and started again",
}
SCENARIO_TEXTS: Final = (
    DOWNLOAD_TEXTS
    | {row.name: row.text for row in SCENARIOS.values()}
    | {name: row.text for name, row in ROUTER_SCENARIOS.items()}
)
"""Each scenario in one line; those of ``DOWNLOADS`` have a download, of ``ROUTER_SCENARIOS`` a
site with a border, the others a conversation."""
CAPTURED: Final = (("isp1", "core"), ("isp1", "custa"), ("isp2", "core"), ("isp2", "custa"))
"""Every packet between a and b passes at least one of these interfaces."""
CAPTURED_OCTETS: Final = 192
"""Octets captured of each packet: all headers, little of the download."""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command ``lab`` with its own commands."""
    leaves = add_group(
        commands,
        "lab",
        description=(
            "Builds two multihomed hosts, a and b, their providers isp1 and isp2, a core and a\n"
            "name server from network namespaces, and applies faults to them. Needs root; changes\n"
            "nothing outside the namespaces."
        ),
        epilog="Start with: noid lab demo",
    )
    _add_up(leaves)
    _add_down(leaves)
    _add_exec(leaves)
    _add_cut(leaves)
    _add_heal(leaves)
    _add_status(leaves)
    _add_run(leaves)
    _add_demo(leaves)


def up(arguments: argparse.Namespace) -> int:
    """Builds a lab that stays."""
    if arguments.sites is not None and arguments.variant != VARIANTS[0]:
        raise UsageError("--sites and --variant are two networks; choose one of them")
    with interruptible(), Console(stderr=True).status("building the lab"):
        _build(arguments)
    name = _named(arguments)
    say(f"lab {arguments.name} is up; try: noid lab exec {name}a -- ping -c3 b.example")
    return 0


def _build(arguments: argparse.Namespace) -> None:
    lab = Lab.up(
        arguments.name, plane=arguments.plane, variant=arguments.variant, sites=arguments.sites
    )
    try:
        lab.serve_content()  # other commands may download it
        if arguments.sites is not None and lab.plane != "none":
            start_borders(lab)
    except BaseException:
        lab.down()
        raise


def down(arguments: argparse.Namespace) -> int:
    """Removes a lab, even if it is incomplete."""
    machine.check_root()
    there = inventory.remove(arguments.name)
    say(f"lab {arguments.name} {'is removed' if there else 'is not up: nothing to remove'}")
    return 0


def execute(arguments: argparse.Namespace) -> int:
    """Replaces this process by a command on a node, with its terminal, signals and exit status."""
    machine.check_root()
    words = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
    if not words:
        raise UsageError("no command to execute; such as: noid lab exec a -- ping -c3 b.example")
    lab = Lab.attach(arguments.name)
    command = lab.command(arguments.host, words)
    sys.stdout.flush()
    environment = os.environ | lab.environment(arguments.host)
    os.execve(find_program(command[0]), command, environment)


def cut(arguments: argparse.Namespace) -> int:
    """Applies a fault."""
    machine.check_root()
    fault = Fault(arguments.how)
    Lab.attach(arguments.name).cut(arguments.provider, fault, arguments.host)
    undo = f"noid lab heal {_named(arguments)}{arguments.provider}"
    say(f"provider {arguments.provider}: {FAULT_TEXTS[fault]}; undo: {undo}")
    return 0


def heal(arguments: argparse.Namespace) -> int:
    """Undoes what ``cut`` did."""
    machine.check_root()
    lab = Lab.attach(arguments.name)
    fault = None if arguments.how is None else Fault(arguments.how)
    for host in HOSTS:
        lab.heal(arguments.provider, host, how=fault)
    say(f"provider {arguments.provider}: {arguments.how or 'every fault'} is undone")
    return 0


def status(arguments: argparse.Namespace) -> int:
    """Prints the parts of one lab, or of all labs."""
    found = [inventory.survey(name) for name in inventory.names()]
    if arguments.name is not None:
        found = [inventory.survey(arguments.name)]
    if arguments.json:
        say(json_line(found))
        return 0
    table = Table(box=None, pad_edge=False)
    for column in ("lab", "plane", "network", "namespaces", "processes"):
        table.add_column(column, overflow="fold")
    for lab in found:
        table.add_row(
            lab["name"],
            lab["plane"] or "?",
            lab["sites"] or lab["variant"] or "?",
            " ".join(lab["nodes"]) or "none",
            " ".join(map(_process_text, lab["processes"])) or "none",
        )
    Console().print(table if found else "no lab is up")
    return 0


def run_scenario(arguments: argparse.Namespace) -> int:
    """Runs a scenario in a separate lab."""
    talker = "curl" if arguments.scenario in DOWNLOADS else "socat"
    machine.check_machine("ip", "nsd", "nginx", talker)
    if arguments.keep_captures is not None:
        find_program("dumpcap")
        arguments.keep_captures.mkdir(parents=True, exist_ok=True)
    if arguments.scenario == restart.NAME:
        restart.check_plane(arguments.plane)
    with interruptible():
        return _print_outcome(_run(arguments), as_json=arguments.json)


def _run(arguments: argparse.Namespace) -> Outcome | Talk | Moved:
    if arguments.scenario in DOWNLOADS:
        return _run_download(arguments)
    if arguments.scenario in ROUTER_SCENARIOS:
        return _run_router(arguments)
    return _run_talk(arguments)


def _run_download(arguments: argparse.Namespace) -> Outcome:
    with contextlib.ExitStack() as stack:
        watch = stack.enter_context(_progress(arguments.scenario))
        lab = stack.enter_context(Lab.create(plane=arguments.plane))
        _keep_captures(stack, lab, arguments.keep_captures)
        scenario = DOWNLOADS[arguments.scenario]
        return scenario(lab, stall_after_s=arguments.stall_after, watch=watch)


def _run_talk(arguments: argparse.Namespace) -> Talk:
    scenario = SCENARIOS[arguments.scenario]
    with contextlib.ExitStack() as stack:
        stack.enter_context(Console(stderr=True).status(f"{scenario.name}: {scenario.text}"))
        lab = stack.enter_context(Lab.create(plane=arguments.plane, variant=scenario.variant))
        _keep_captures(stack, lab, arguments.keep_captures)
        return play(lab, scenario, stall_after_s=arguments.stall_after)


def _run_router(arguments: argparse.Namespace) -> Moved:
    scenario = ROUTER_SCENARIOS[arguments.scenario]
    with contextlib.ExitStack() as stack:
        text = f"{arguments.scenario}: {scenario.text}"
        stack.enter_context(Console(stderr=True).status(text))
        lab = stack.enter_context(Lab.create(plane=arguments.plane, sites=scenario.sites))
        _keep_captures(stack, lab, arguments.keep_captures)
        return scenario.play(lab, stall_after_s=arguments.stall_after)


def _keep_captures(stack: contextlib.ExitStack, lab: Lab, directory: Path | None) -> None:
    for node, interface in CAPTURED if directory else ():
        assert directory is not None, "there is nothing to capture into no directory"
        path = directory / f"{node}-{interface}.pcapng"
        stack.enter_context(lab.capture(node, interface, path, octets_each=CAPTURED_OCTETS))


def demo(arguments: argparse.Namespace) -> int:
    """Shows a provider failure without and with noid."""
    machine.check_machine("ip", "nsd", "nginx", "curl")
    with interruptible():
        show = LINE_DIES if arguments.sites else PROVIDER_DIES
        return 0 if demonstrate(Console(), show) else 1


def _add_up(leaves: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    leaf = add_leaf(
        leaves,
        "up",
        up,
        "build a lab that stays until `noid lab down`",
        "noid lab up --plane none",
    )
    lab_options.add_name(leaf)
    lab_options.add_plane(leaf)
    leaf.add_argument(
        "--variant",
        choices=VARIANTS,
        default=VARIANTS[0],
        help="; ".join(f"{variant}: {text}" for variant, text in VARIANT_TEXTS.items())
        + "; default: %(default)s",
    )
    leaf.add_argument(
        "--sites",
        nargs="?",
        choices=SITES,
        const=SITES[0],
        help="put hosts behind borders; "
        + "; ".join(f"{sites}: {text}" for sites, text in SITES_TEXTS.items())
        + f"; without a word: {SITES[0]}",
    )


def _add_down(leaves: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    leaf = add_leaf(
        leaves,
        "down",
        down,
        "remove a lab, also one that is incomplete",
        "noid lab down",
    )
    lab_options.add_name(leaf)


def _add_exec(leaves: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    leaf = add_leaf(
        leaves,
        "exec",
        execute,
        "run a command on a host of a lab; its exit status is the command's",
        "noid lab exec a -- ping -c3 b.example",
    )
    lab_options.add_name(leaf)
    leaf.add_argument(
        "host", metavar="HOST", choices=sorted(ALL_NODES), help=", ".join(sorted(ALL_NODES))
    )
    leaf.add_argument(
        "words",
        metavar="-- COMMAND",
        nargs=argparse.REMAINDER,
        help="the command and its arguments",
    )


def _add_cut(leaves: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "apply a fault to a provider; by default it drops everything, with its links up"
    leaf = add_leaf(leaves, "cut", cut, summary, "noid lab cut 1 --how carrier --host b")
    lab_options.add_name(leaf)
    _add_provider(leaf)
    _add_how(leaf, default=Fault.SILENT.value)
    leaf.add_argument(
        "--host",
        choices=HOSTS,
        default=HOSTS[0],
        help="whose access line or uplink has the fault, unless the whole provider has it; "
        "default: %(default)s",
    )


def _add_heal(leaves: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    leaf = add_leaf(leaves, "heal", heal, "undo the faults of a provider", "noid lab heal 1")
    lab_options.add_name(leaf)
    _add_provider(leaf)
    _add_how(leaf, default=None)


def _add_provider(leaf: argparse.ArgumentParser) -> None:
    leaf.add_argument("provider", metavar="NUMBER", type=int, help="of the provider: 1 or 2")


def _add_how(leaf: argparse.ArgumentParser, *, default: str | None) -> None:
    leaf.add_argument(
        "--how",
        metavar="FAULT",
        choices=[fault.value for fault in Fault],
        default=default,
        help="; ".join(f"{fault.value}: {text}" for fault, text in FAULT_TEXTS.items())
        + f"; default: {default or 'every fault in force'}",
    )


def _add_status(leaves: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    leaf = add_leaf(leaves, "status", status, "list the labs", "noid lab status --json")
    leaf.add_argument("--name", help="only this lab; all of them by default")
    add_json(leaf)


def _add_run(leaves: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    leaf = add_leaf(
        leaves,
        "run",
        run_scenario,
        "run a scenario in a separate lab, which is removed afterwards",
        "noid lab run carrier --plane none --stall-after 5 --json",
    )
    leaf.add_argument(
        "scenario",
        metavar="SCENARIO",
        choices=tuple(SCENARIO_TEXTS),
        help="its name; --list shows all of them",
    )
    leaf.add_argument("--list", action=_List, help="list the scenarios and exit")
    lab_options.add_plane(leaf)
    add_json(leaf, "the result as one line of JSON")
    leaf.add_argument(
        "--stall-after",
        type=lab_options.seconds,
        default=STALL_AFTER_S,
        metavar="SECONDS",
        help="give up after this time without data; default: %(default)s",
    )
    leaf.add_argument(
        "--keep-captures", type=Path, metavar="DIR", help="keep pcapng files of both providers"
    )


class _List(argparse.Action):
    """Prints the scenarios, one per line, and ends the program, as --version does."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        width = max(map(len, SCENARIO_TEXTS))
        for name, text in SCENARIO_TEXTS.items():
            say(f"{name:{width}}  {text}")
        parser.exit()


def _add_demo(leaves: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    leaf = add_leaf(
        leaves,
        "demo",
        demo,
        "show that a download survives a provider failure: first without noid, then with it",
        "noid lab demo | tee demo.txt\n  noid lab demo --sites",
    )
    leaf.add_argument(
        "--sites",
        action="store_true",
        help="a site whose line to a provider dies: behind a router with NPTv6, then behind a "
        "border with noid",
    )


def _named(arguments: argparse.Namespace) -> str:
    """The option that selects the same lab in another command."""
    return "" if arguments.name == lab_options.DEFAULT_NAME else f"--name {arguments.name} "


def _process_text(process: dict[str, Any]) -> str:
    return f"{process['name']}({process['pid'] if process['running'] else 'ended'})"


@contextlib.contextmanager
def _progress(title: str) -> Iterator[Watch]:
    """Shows the progress of a scenario on standard error, if that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(f"{title}: building the lab", total=None)

        def watch(run: Run) -> None:
            state = "downloading" if run.cut_ns is None else "provider 1 has failed"
            bar.update(
                task,
                description=f"{title}: {state}",
                completed=run.octets,
                total=run.octets_expected,
            )

        yield watch


def _print_outcome(outcome: Outcome | Talk | Moved, *, as_json: bool) -> int:
    if as_json:
        say(json_line(asdict(outcome)))
    else:
        Console().print(table_of([outcome]))
    return 0 if outcome.good else 1
