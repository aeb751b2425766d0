/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Notices that super-packets do not arrive, and has them cut for a while.
 *
 * A device passes them whole to the next host of a virtual link. A device behind that may leave the
 * cutting to its kernel, which does not know M6 and drops them: one without such hardware, or one
 * whose peer has an XDP program of the user's. TCP then sends their first segment again and again,
 * alone, and all else is lost.
 */
#pragma once
#include "tables.h"

#define SUPERS_LOST 2		/* of those that were watched, one after another */
#define SUPER_WAIT SECOND	/* then a super-packet has arrived whose start was not sent again */
#define CUT_TIME (60 * SECOND)	/* for which super-packets are cut; doubled each time */
#define CUT_DOUBLED_MAX 4

/* Whether super-packets of a flow are to be cut on the pair of locators in use. */
static __always_inline int is_cut(const struct outbound *flow, const struct address *peer)
{
	u32 label = flow->local_label, first = 0;
	u64 *until = bpf_map_lookup_elem(&last_cut, &first), now;
	struct super_packet *last;

	if (!until || !*until)
		return 0;
	now = bpf_ktime_get_ns();
	if (now >= *until)
		return 0;
	last = bpf_map_lookup_elem(&super_packets, &label);
	return last && same(&last->locators.local, &flow->local_locator) &&
	       same(&last->locators.peer, peer) && now < last->cut_until_ns;
}

/* The start of a watched super-packet is sent again. Once the second in a row is lost though its
 * peer is heard, all are cut.
 */
static __always_inline void note_lost(struct super_packet *last, const struct inbound *back,
				      u64 now)
{
	u32 first = 0;
	u64 *until = bpf_map_lookup_elem(&last_cut, &first);

	if (back->received_ns > last->sent_ns)
		last->losses += 1;
	if (!until || last->losses < SUPERS_LOST)
		return;
	last->losses = 0;
	last->cut_until_ns = now + (CUT_TIME << (last->cuts & (2 * CUT_DOUBLED_MAX - 1)));
	if (*until < last->cut_until_ns)
		*until = last->cut_until_ns;
	if (last->cuts < CUT_DOUBLED_MAX)
		last->cuts += 1;
	count(SUPERS_NOT_ARRIVED);
}

/* Watches one super-packet of a flow at a time. A packet is seen once in a tick at most. */
static __always_inline void watch_super(struct __sk_buff *packet, const struct outbound *flow,
					const struct inbound *back, u32 at, u64 now)
{
	struct super_packet this = {.sent_ns = now}, *last;
	u32 label = flow->local_label, is_super = super_octets(packet);

	last = bpf_map_lookup_elem(&super_packets, &label);
	if ((!last && !is_super) || bpf_skb_load_bytes(packet, at + IPV6_OCTETS, &this, 8))
		return;
	if (last && last->ports == this.ports && last->sequence == this.sequence) {
		note_lost(last, back, now);
		last->ports = 0;
	} else if (last && last->ports && now - last->sent_ns < SUPER_WAIT) {
		return;
	} else if (last && last->ports) {
		last->losses = 0;
		last->cuts = 0;
		last->ports = 0;
	}
	if (!is_super)
		return;
	this.locators.local = flow->local_locator;
	this.locators.peer = flow->peer[flow->chosen & 1].locator;
	if (last && same(&last->locators.local, &this.locators.local) &&
	    same(&last->locators.peer, &this.locators.peer)) {
		last->ports = this.ports;
		last->sequence = this.sequence;
		last->sent_ns = now;
	} else {
		bpf_map_update_elem(&super_packets, &label, &this, 0);
	}
}
