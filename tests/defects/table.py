# SPDX-License-Identifier: MIT
"""Deliberate defects: what is taken out of the code, and the tests that must notice."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Defect:
    """One defect.

    Attributes:
        name: what is wrong with the code that has it.
        module: the file under ``src/noid``.
        old: what stands there, once.
        new: what stands there instead.
        test: where it must be noticed.
    """

    name: str
    module: str
    old: str
    new: str
    test: str


DEFECTS = (
    Defect(
        "the cookie is not checked",
        "engine/responder.py",
        "if opened is None:\n        core.drop",
        "opened = opened or (core.keys.pair(0), 0)\n    if False:\n        core.drop",
        "engine/test_handshake.py::test_a_ccr_that_was_altered_makes_no_context",
    ),
    Defect(
        "the cookie is not bound to where the CC went",
        "engine/secrets.py",
        'timestamp.to_bytes(8, "big") + locator + epoch.pair.public + state',
        'timestamp.to_bytes(8, "big") + epoch.pair.public + state',
        "engine/test_state.py::test_an_altered_cookie_does_not_open",
    ),
    Defect(
        "a CCR is accepted after 30 seconds",
        "engine/secrets.py",
        "<= COOKIE_LIFETIME:",
        "<= 10 * COOKIE_LIFETIME:",
        "engine/test_handshake.py::test_a_ccr_that_comes_too_late_makes_no_context",
    ),
    Defect(
        "an INIT that crosses ours is answered wherever it comes from",
        "engine/responder.py",
        "core.drop(Drop.INIT_FROM_UNKNOWN_LOCATOR)\n        return\n",
        "core.drop(Drop.INIT_FROM_UNKNOWN_LOCATOR)\n",
        "engine/test_keys.py::test_an_init_that_crosses_ours_from_elsewhere_is_dropped",
    ),
    Defect(
        "an Update Request is taken wherever it comes from",
        "engine/matching.py",
        "is_known = context.accepts(event.source) or _adds(context, message, event.source)",
        "is_known = True",
        "engine/test_conformance_later.py::test_an_update_between_unknown_locators_is_dropped",
    ),
    Defect(
        "data is delivered wherever it comes from",
        "flows/rewrite.py",
        "return Refusal.SOURCE_NOT_THE_PEERS",
        "pass",
        "flows/test_rewrite.py::test_what_does_not_fit_the_context_is_refused",
    ),
    Defect(
        "the nonce of a CC is not checked",
        "engine/handshake.py",
        "message, Drop.CC_WITH_OTHER_NONCE)\n",
        "message, Drop.CC_WITH_OTHER_NONCE) or context.peer_aid\n",
        "engine/test_conformance_setup.py::test_a_cc_that_answers_no_init_is_dropped",
    ),
    Defect(
        "the nonce of a CONF is not checked",
        "engine/handshake.py",
        "message, Drop.CONF_WITH_OTHER_NONCE\n    )\n",
        "message, Drop.CONF_WITH_OTHER_NONCE\n    ) or context.peer_aid\n",
        "engine/test_conformance_setup.py::test_a_conf_that_answers_nothing_is_dropped",
    ),
    Defect(
        "a label in quarantine is used again",
        "engine/core.py",
        " and label not in self.quarantine",
        "",
        "engine/test_conformance_setup.py::test_a_label_is_never_nought_nor_one_that_is_taken",
    ),
    Defect(
        "the AID is in Lsv although nothing proves it",
        "engine/responder.py",
        "context.aid_proven = probation is None",
        "context.aid_proven = True",
        "engine/test_provisional.py::test_the_aid_is_not_proven_by_a_cc_that_went_elsewhere",
    ),
    Defect(
        "a locator is proven although its reverse record does not name the peer",
        "dns/verification.py",
        "if self.name not in names:",
        "if not self.name:",
        "dns/test_verification.py::test_a_locator_that_does_not_name_the_peer_is_excluded",
    ),
    Defect(
        "a name that does not list the AID is the peer's",
        "dns/verification.py",
        "if self.aid in answer.locators:",
        "if answer.locators:",
        "engine/test_conformance_setup.py::test_a_reverse_zone_that_points_at_a_victims_name_proves_nothing",
    ),
    Defect(
        "an Unknown Context is believed blindly",
        "engine/loss.py",
        "elif not believed:",
        "elif False:",
        "engine/test_loss.py::test_a_birthday_alone_proves_nothing",
    ),
    Defect(
        "an Unknown Context is believed wherever it comes from",
        "engine/loss.py",
        "core.drop(Drop.UC_FROM_UNKNOWN_LOCATOR)\n        return\n",
        "core.drop(Drop.UC_FROM_UNKNOWN_LOCATOR)\n",
        "engine/test_conformance_later.py::test_a_uc_from_outside_the_set_of_the_peer_is_dropped",
    ),
    Defect(
        "a CLOSE without authentication is believed",
        "engine/close.py",
        "else Drop.CLOSE_NOT_AUTHENTIC",
        'else ""',
        "engine/test_close.py::test_a_forged_close_is_dropped",
    ),
    Defect(
        "a CLOSEACK with wrong authentication is believed",
        "engine/close.py",
        "elif not is_authentic(context.agreed_key, event, message):",
        "elif False:",
        "engine/test_refusals.py::test_a_forged_closeack_is_dropped",
    ),
    Defect(
        "an old Update Request is applied again",
        "engine/reachability.py",
        "    if is_newest:",
        "    if True:",
        "engine/test_reachability.py::test_an_older_update_is_acknowledged_and_not_applied",
    ),
    Defect(
        "the authentication of an Update Request is not checked",
        "engine/matching.py",
        "if not is_authentic(context.agreed_key, event, message):",
        "if False:",
        "engine/test_reachability.py::test_a_forged_update_is_dropped",
    ),
    Defect(
        "a provisional context delivers",
        "engine/core.py",
        "if context.probation is None:\n            self.emit(DeliverToUlp(packet))",
        "if True:\n            self.emit(DeliverToUlp(packet))",
        "engine/test_provisional.py::test_nothing_is_delivered_or_sent_until_it_is_proven",
    ),
    Defect(
        "a CC does not say that a packet was discarded",
        "engine/responder.py",
        "is_discarded = message.piggyback is not None",
        "is_discarded = False",
        "engine/test_handshake.py::test_a_packet_on_an_init_is_discarded_and_the_cc_says_so",
    ),
    Defect(
        "data follows a source that is not proven",
        "flows/rewrite.py",
        " and delivery.verified and",
        " and",
        "flows/test_rewrite.py::test_a_source_that_is_not_verified_is_reported_and_not_followed",
    ),
    Defect(
        "a source that is not proven becomes the destination",
        "engine/following.py",
        "if event.source not in context.peer_verified:",
        "if False:",
        "engine/test_asking.py::test_nothing_is_sent_to_a_source_that_is_not_proven",
    ),
    Defect(
        "a CC may be larger than three times its INIT",
        "constants.py",
        "LOCATORS_MAX: Final = 16",
        "LOCATORS_MAX: Final = 40",
        "engine/test_limits.py::test_the_answer_to_the_smallest_init_is_limited_to_a_multiple_of_its_length",
    ),
    Defect(
        "an unknown critical option is passed over",
        "wire/control.py",
        "if head & CRITICAL:",
        "if False:",
        "wire/test_control.py::test_an_unknown_critical_option_drops_the_message",
    ),
    Defect(
        "the checksum of a message is not checked",
        "wire/control.py",
        "if ipv6.checksum(*ends, ipv6.ICMPV6, octets) != 0:",
        "if False:",
        "wire/test_control.py::test_a_plain_message_does_not",
    ),
    Defect(
        "a CCR of a host that knows only the label replaces a context",
        "engine/responder.py",
        "if context.is_provisional or ccr.cookie.locator not in proven:",
        "if False:",
        "engine/test_refusals_setup.py::test_nobody_replaces_a_context_in_the_name_of_the_peer",
    ),
    Defect(
        "a CCR of a host that knows only the label gets CONF",
        "engine/responder.py",
        "return exchange_of(context) == said_by_sender(message)",
        "return exchange_of(context).label == said_by_sender(message).label",
        "engine/test_refusals_setup.py::test_nobody_who_only_guessed_the_label_gets_a_conf",
    ),
    Defect(
        "CONF goes to where the CCR says it comes from",
        "engine/responder.py",
        "destination = event.source if cookie is None else cookie.locator",
        "destination = event.source",
        "engine/test_conformance_setup.py::test_the_conf_is_sent_to_the_destination_of_the_cc",
    ),
    Defect(
        "UCs are sent at any rate",
        "engine/unknown.py",
        "if not core.may_answer(header.source, core.errors):",
        "if False:",
        "engine/test_limits.py::test_unknown_contexts_are_told_at_their_rate_once_the_burst_is_gone",
    ),
    Defect(
        "what a context cannot carry yet goes by it",
        "engine/context.py",
        "and self.peer_locator in verified,",
        "and True,",
        "engine/test_refusals.py::test_where_no_locator_is_proven_a_context_closes_without_a_word",
    ),
    Defect(
        "nothing is reported when nothing answers",
        "flows/software.py",
        "if silent_ns:",
        "if False:",
        "sim/test_laws.py::test_a_law_holds_and_is_judged[liveness]",
    ),
    Defect(
        "a peer hears nothing of a context that we do not have",
        "engine/unknown.py",
        "    core.send(message, (header.destination, header.source))\n",
        "",
        "engine/test_limits.py::test_a_quote_is_cut_so_that_the_message_fits_the_least_mtu",
    ),
    Defect(
        "the sets of an Update Request are not taken",
        "engine/update.py",
        "    context.learn_peer_locators(message.sender_locators)\n",
        "",
        "sim/test_laws.py::test_a_law_holds_and_is_judged[agreement]",
    ),
    Defect(
        "every packet is delivered twice",
        "flows/software.py",
        "[Deliver(delivery.packet)]",
        "[Deliver(delivery.packet)] * 2",
        "sim/test_laws.py::test_a_law_holds_and_is_judged[quiet]",
    ),
    Defect(
        "a peer is verified again from its AID and not from its name",
        "engine/verifying.py",
        "context.renewal = context.verification.again()",
        "context.renewal = Verification(context.peer_aid, None)",
        "sim/test_laws.py::test_a_law_holds_and_is_judged[renumbering]",
    ),
    Defect(
        "control messages do not reach the engine",
        "flows/software.py",
        "return [ControlMessageReceived(source, destination, in_slot, octets)]",
        "return []",
        "sim/test_laws.py::test_a_law_holds_and_is_judged[set-up]",
    ),
    Defect(
        "an Update Request of before a restart is applied after it",
        "engine/adoption.py",
        "setattr(context, name, getattr(memory, name))",
        "setattr(context, name, getattr(memory if name != 'peer_update_nonce' else context, name))",
        "engine/test_second_lives.py::test_an_update_request_of_before_a_restart_is_not_applied_after_it",
    ),
    Defect(
        "a context that is gone still waits for the DNS",
        "engine/lifecycle.py",
        "waiting.pop(context, None)",
        "pass",
        "engine/test_second_lives.py::test_a_context_that_is_gone_waits_for_no_answer",
    ),
    Defect(
        "the label of a set-up that failed is used again at once",
        "engine/quarantine.py",
        "if context.is_known_to_peer or context.announced:",
        "if context.is_known_to_peer:",
        "engine/test_second_lives.py::test_every_label_that_a_peer_may_send_by_is_quarantined_with_its_context",
    ),
    Defect(
        "an address whose duplicate address detection failed is a locator",
        "host/links.py",
        "FLAG_TEMPORARY | FLAG_DAD_FAILED | FLAG_TENTATIVE",
        "FLAG_TEMPORARY | FLAG_TENTATIVE",
        "host/test_links.py::test_temporary_and_tentative_addresses_are_not_locators",
    ),
    Defect(
        "a context that is gone still waits for the answers of its second inquiry",
        "engine/lifecycle.py",
        "for question in (*context.verification.open, *renewing):",
        "for question in context.verification.open:",
        "engine/test_second_lives.py::test_a_host_knows_no_context_that_is_gone",
    ),
    Defect(
        "what a peer was told in the first life of a context counts in the second",
        "engine/handshake.py",
        "    context.told_remote = ()\n",
        "",
        "engine/test_second_lives.py::test_a_context_set_up_again_after_any_history_equals_a_first_one",
    ),
    Defect(
        "a forged CLOSE of a deleted context is acknowledged",
        "engine/close.py",
        "elif not key or not is_authentic(key, event, message):",
        "elif not key:",
        "engine/test_close.py::test_a_close_of_a_deleted_context_is_acknowledged_again_if_it_is_authentic",
    ),
)
