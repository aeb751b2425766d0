# SPDX-License-Identifier: MIT
"""Why a context changes its state or its pair, looks for another, or a peer counts as plain. Pure.

A cause is added as one line here. Its identifier, for programs, is its name in lower case; its
value is the description for people.
"""

import enum


@enum.unique
class Cause(enum.StrEnum):
    """A cause that the engine reports."""

    # Set-up [draft §4.3, §7.2-7.6].
    ULP_SENDS = "the ULP sends"
    CC_RECEIVED = "CC received"
    CCR_RECEIVED = "CCR received"
    CONF_RECEIVED = "CONF received"
    UR_RECEIVED = "UR received"
    CCR_UNANSWERED = "CCR unanswered"
    INIT_UNANSWERED = "INIT unanswered"
    INIT_UNANSWERED_RESTORED = "INIT unanswered, context restored"
    TAKEN_UP = "taken up again"
    REPLACED_BY_PEER = "replaced by the peer"

    # Updates [draft §7.7-7.9].
    NEW_SETS = "telling the peer new sets"
    UPDATE_ACKNOWLEDGED = "update acknowledged"
    UPDATE_UNACKNOWLEDGED = "update unacknowledged"

    # Searches for a pair that works [D20, D43, D47].
    NOTHING_HEARD = "nothing heard"
    NOTHING_AUTHENTIC_HEARD = "nothing authentic heard"
    LONG_SILENCE = "long since anything was heard"
    PEER_HEARS_NOTHING = "the peer hears nothing"
    DESTINATION_UNREACHABLE = "destination unreachable"
    FORM_REJECTED = "the form of data is rejected"
    DATA_UNPROVEN = "data has yet to pass"
    NO_PAIR_PASSED_DATA = "no pair passed data"
    DATA_LOST = "messages pass, and data does not"
    ONLY_PEER_SAYS = "only the peer says that it works"

    # Better pairs [D22] and moved sources [D21].
    BETTER_PAIR = "a better pair may work"
    OWN_LOCATORS_BETTER = "another local locator is better"
    PEER_LOCATORS_BETTER = "another locator of the peer is better"
    PEER_USES_BETTER_PAIR = "the peer uses a better pair"
    SOURCE_MOVED = "the peer's source moved"
    SOURCE_UNPROVEN = "the peer's source proved nothing"

    # The end of a context [D10, D18, D19, D39, D46].
    PEER_HAS_NO_CONTEXT = "the peer has no context"
    PEER_HAS_CONTEXT = "the peer has the context"
    PEER_LOST_CONTEXT = "the peer lost the context"
    DISOWNED_AT_AID = "the host at the AID does not have the context"
    PROVEN_AT_AID = "another one is proven at the AID"
    NOTHING_TO_CLOSE = "the peer has nothing to close"
    IDLE = "nothing received for long"
    CLOSED_BY_PEER = "closed by the peer"
    CLOSE_ACKNOWLEDGED = "CLOSE acknowledged"
    CLOSE_UNACKNOWLEDGED = "CLOSE unacknowledged"
    NO_ROOM = "makes room for another"

    # What the DNS says [D37, D45].
    PROVEN = "proven by the DNS"
    AID_OF_ANOTHER_NAME = "the AID is another name's"
    NOT_PROVEN_IN_TIME = "not proven in time"
    ANOTHER_PROVEN = "another one is proven"
    PEER_REFUTED = "the peer is not who it says"

    # Why a peer is reached as a plain IPv6 host [D15].
    NO_ANSWER_TO_INIT = "no answer to INIT"
    M6_UNKNOWN = "it does not know M6"
    M6_DROPPED = "M6 packets are dropped on the way"

    @property
    def identifier(self) -> str:
        """For programs: a value in JSON."""
        return self.name.lower()
