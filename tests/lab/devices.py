"""What the uplinks of a lab's hosts do for the stack, as ethtool would set it."""

from pyroute2.ethtool import Ethtool

from noid.lab import namespaces
from noid.lab.lab import Lab

UPLINKS = ("up1", "up2")


def set_features(lab: Lab, host: str, *, on: bool, names: tuple[str, ...]) -> None:
    """Turns features of both uplinks of a host on or off."""

    def turn() -> None:
        with Ethtool() as ethtool:
            for uplink in UPLINKS:
                answer = ethtool.get_features(uplink)
                for name in names:
                    answer.features[name].enable = on
                ethtool.set_features(uplink, answer)

    namespaces.inside(namespaces.namespace(lab.name, host), turn)
