# SPDX-License-Identifier: MIT
"""The commands of ``noid``: the purpose and the module of each.

A module is imported when one of its commands is chosen. So ``noid --version`` and ``noid run`` do
not import the testbed, and ``noid --help`` shows every command without importing any.
"""

from typing import Final

MODULES: Final[dict[str, dict[str, str]]] = {
    "run": {
        "run": "run the shim on this host, in the foreground",
        "down": "remove the programs, routes and rules that stay when the daemon has stopped",
    },
    "check": {
        "check": "validate the configuration file",
        "reload": "apply changes of the configuration file to the running daemon",
    },
    "plain": {
        "plain": "run a program whose connections bypass the shim",
    },
    "inspect": {
        "status": "the state and counters of the running daemon",
        "contexts": "the host-pair contexts, one per line",
    },
    "paths": {
        "paths": "each uplink: its state, since when, and its traffic",
    },
    "prefer": {
        "use": "prefer one uplink to all others, without losing a packet",
        "avoid": "stop using an uplink, for maintenance, without losing a packet",
        "auto": "cancel noid use and noid avoid",
    },
    "history": {
        "monitor": "events as they happen; ends with Ctrl-C",
        "history": "the last changes of uplinks and switches of contexts",
        "ping": "the round trip and the loss of every pair of locators to a peer",
    },
    "top": {
        "top": "the uplinks of this host, live on a terminal",
    },
    "web": {
        "web": "a web page that shows uplinks, contexts and failovers, live",
    },
    "capture": {
        "capture": "the packets of one context on the uplinks, as a pcapng file",
    },
    "names": {
        "zone": "the DNS records that this host needs, in the format of a zone file",
        "lookup": "how the shim verifies a peer, step by step",
        "resolver": "make programs ask noid, by /etc/resolv.conf, or undo that",
    },
    "setup": {
        "setup": "detect uplinks and name, write configuration and routes; or undo that",
    },
    "doctor": {
        "doctor": "check everything that this host needs, and print a fix for each problem",
    },
    "report": {
        "report": "collect what helps to find a fault, without names and addresses",
    },
    "border": {
        "border": "a router that rewrites source locators when an uplink fails",
    },
    "lab": {
        "lab": "two multihomed hosts and their providers, in network namespaces of this machine",
    },
    "sim": {
        "sim": "simulate many hosts, network faults and attackers, in virtual time",
    },
    "bench": {
        "bench": "measure the figures of docs/performance.md on this machine",
    },
}
"""The module of ``noid.cli``, its commands, and each of them in one line; in the order of --help.

``add_commands`` of the module adds the parsers of exactly these commands.
"""

SUMMARIES: Final = {name: text for texts in MODULES.values() for name, text in texts.items()}
"""Each command in one line."""
