# SPDX-License-Identifier: MIT
"""The commands of ``noid``: what each is for, and the module that has it.

A module is imported when one of its commands is chosen. So ``noid --version`` and ``noid run`` do
not import the testbed, and ``noid --help`` shows every command without importing any.
"""

from typing import Final

MODULES: Final[dict[str, dict[str, str]]] = {
    "run": {
        "run": "run the shim on this host, in the foreground",
        "down": "remove what the data plane in the kernel keeps going without a daemon",
    },
    "check": {
        "check": "validate the configuration file",
        "reload": "apply changes of the configuration file to the running daemon",
    },
    "plain": {
        "plain": "run a program whose connections bypass the shim",
    },
    "inspect": {
        "status": "what the running daemon does, and what it dropped",
        "contexts": "the host-pair contexts, as ip shows neighbours",
        "monitor": "what happens, as it happens; ends with Ctrl-C",
    },
    "paths": {
        "paths": "each uplink: whether it works, since when, and what passes over it",
    },
    "prefer": {
        "use": "use one uplink before all others, without losing a packet",
        "avoid": "leave an uplink, for maintenance, without losing a packet",
        "auto": "use the uplinks as the configuration says again",
    },
    "history": {
        "history": "the last changes of uplinks and switches of contexts",
        "ping": "the round trip and the loss of every pair of locators to a peer",
    },
    "top": {
        "top": "the uplinks of this host, live",
    },
    "web": {
        "web": "a page that shows uplinks, contexts and failovers, live",
    },
    "capture": {
        "capture": "what the uplinks carry of one context, as a pcapng file",
    },
    "names": {
        "zone": "the records this host needs in the DNS, in zone-file form",
        "lookup": "how the shim verifies a peer, step by step",
        "resolver": "whether programs ask noid: /etc/resolv.conf",
    },
    "setup": {
        "setup": "find uplinks and name, write configuration and routes, or take that back",
    },
    "doctor": {
        "doctor": "checks everything this host needs, and says how to correct what is wrong",
    },
    "border": {
        "border": "a router that rewrites source locators where an uplink fails",
    },
    "lab": {
        "lab": "two multihomed hosts and their providers, in network namespaces of this machine",
    },
    "sim": {
        "sim": "many hosts, a bad network and attackers, in virtual time",
    },
    "bench": {
        "bench": "how fast and how large: the figures of the documentation, measured again",
    },
}
"""The module of ``noid.cli``, its commands, and each of them in one line; in the order of --help.

``add_commands`` of the module adds the parsers of exactly these commands.
"""

SUMMARIES: Final = {name: text for texts in MODULES.values() for name, text in texts.items()}
"""Each command in one line."""
