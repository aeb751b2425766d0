/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A packet that arrives: from between locators to between AIDs. */
#pragma once
#include "messages.h"

#define FOLLOW_INTERVAL SECOND		 /* [D21] */
#define FOLLOW_SILENCE_MIN (SECOND / 200) /* [D41] */
#define GAP_MAX (4 * SECOND)		 /* counted as the peer's silence, as it fits an entry */
#define GAPS_USUAL 2			 /* a longer gap counts as so many */
#define GAP_UNUSUAL (SECOND / 16)	 /* a shorter gap is counted whatever the usual one is */
#define MORE_MAX 255			 /* packets of a tick after its first, as they are counted */
#define UNKNOWN_LABELS_PER_SECOND 200
#define OPTIONS_PER_SECOND 1000 /* M6 packets behind hop-by-hop options, to the daemon */
#define ESCAPES_PER_SECOND 65536 /* packets of flows that the daemon restores or holds */
#define GATEWAY_FIRST 0xfe800000 /* the first and last 32 bits of the neighbour of our routes */
#define GATEWAY_LAST 0x6e6f6964

/* Learns how long the peer usually is silent. An outage is no habit: it counts as two gaps.
 *
 * gaps: between the packets heard since heard_ns; the mean of them is learnt.
 */
static __always_inline void learn_gap(struct inbound *flow, u64 now, u32 gaps)
{
	u64 gap = (now - flow->heard_ns) / gaps, usual = GAPS_USUAL * (u64)flow->gap_ns;

	if (flow->heard_ns) {
		if (usual && gap > usual)
			gap = usual > GAP_UNUSUAL ? usual : gap > GAP_UNUSUAL ? GAP_UNUSUAL : gap;
		if (gap > GAP_MAX)
			gap = GAP_MAX;
		flow->gap_ns = flow->gap_ns ? flow->gap_ns - flow->gap_ns / 4 + gap / 4 : gap;
	}
	flow->heard_ns = now;
	flow->more = 0;
}

/* Says that a keepalive is due: at the second packet since something was sent, no sooner than
 * KEEPALIVE_INTERVAL after that [D42].
 */
static __attribute__((noinline)) void owe(struct inbound *flow, u32 label, u64 now)
{
	struct pair aids = flow->near[0];
	struct outbound *out = bpf_map_lookup_elem(&outbound, &aids);

	if (!out || out->local_label != label || now < out->sent_ns + KEEPALIVE_INTERVAL) {
		flow->owes = 0;
	} else if (!flow->owes) {
		flow->owes = 1;
	} else {
		flow->owes = 0;
		out->sent_ns = now;
		notify(ONE_WAY_DATA, label, &aids.peer);
	}
}

/* Remembers that data came from where the peer sends. It asks the clock for the first packet of each
 * tick and counts the others. In a tick that is followed by another with packets, these had the same
 * gaps; before a pause, the pause is the gap.
 */
static __always_inline void hear(struct inbound *flow, u32 label)
{
	u32 tick = bpf_jiffies64();

	if (!flow->answered)
		flow->answered = 1;
	if (flow->tick != tick) {
		flow->received_ns = bpf_ktime_get_ns();
		learn_gap(flow, flow->received_ns, tick - flow->tick == 1 ? flow->more + 1 : 1);
		flow->tick = tick;
	} else {
		if (flow->more < MORE_MAX)
			flow->more++;
		if (!flow->owes)
			return;
	}
	owe(flow, label, flow->received_ns);
}

/* The daemon has an authentic message from the peer of a flow; the packet is its label, and whether
 * the message came unasked. An answer says nothing of how long the peer usually is silent.
 */
static __always_inline int heard(struct __sk_buff *packet)
{
	struct inbound *flow;
	u64 now = bpf_ktime_get_ns();
	struct {
		u32 label;
		u8 unasked;
	} __attribute__((packed)) word;
	u32 label;

	if (bpf_skb_load_bytes(packet, 0, &word, sizeof(word)))
		return TCX_NEXT;
	label = word.label;
	flow = bpf_map_lookup_elem(&inbound, &label);
	if (!flow)
		return TCX_NEXT;
	flow->answered = 1;
	flow->proven = rough_time(now);
	if (word.unasked)
		learn_gap(flow, now, 1);
	return TCX_NEXT;
}

/* Puts the AIDs and the protocol back. */
static __always_inline void restore(struct ipv6 *ip, const struct inbound *flow, u8 slot)
{
	ip->first &= ~LABEL_MASK;
	ip->next_header = protocol_of(slot);
	ip->source = flow->near[0].peer;
	ip->destination = flow->near[0].local;
}

/* For how long nothing has come from the locator in use. The packets of a tick have come after its
 * first as far apart as usually.
 */
static __always_inline u64 silent_for(const struct inbound *flow, u64 now)
{
	u64 after = (u64)flow->more * flow->gap_ns;
	u64 last = flow->heard_ns + (after < TICK_USUAL ? after : TICK_USUAL);

	return last < now ? now - last : 0;
}

/* Whether the locator in use is silent, and data may move Lp(peer) [D41]. */
static __always_inline int may_follow(const struct inbound *flow, const struct outbound *out,
				      u8 from, u64 now)
{
	u64 silence = 2ULL * flow->gap_ns;

	if (silence < FOLLOW_SILENCE_MIN)
		silence = FOLLOW_SILENCE_MIN;
	if (silence > out->silence_ns)
		silence = out->silence_ns;
	return flow->verified >> (from & 15) & 1 && now >= flow->follow_ns &&
	       silent_for(flow, now) >= silence;
}

static __always_inline void move_to(struct outbound *out, const struct address *locator)
{
	u8 beside = ~out->chosen & 1;

	out->peer[beside].locator = *locator;
	out->peer[beside].until = 0;
	barrier();
	out->chosen = beside;
}

/* Data from another locator than the peer sends from: says so, and lets Lp(peer) follow, if it may.
 * The daemon, which then asks both, must hear of each move. Returns whether the packet is from the
 * locator in use now, and so counts as heard.
 */
static __attribute__((noinline)) int follow(struct inbound *flow, u32 label, u8 from,
					    const struct address *source)
{
	struct pair aids = flow->near[0];
	u64 now = bpf_ktime_get_ns();
	struct outbound *out;
	struct report *report;
	int follows;

	flow->received_ns = now;
	out = bpf_map_lookup_elem(&outbound, &aids);
	if (out && out->local_label != label)
		out = 0;
	if (out && same(&out->peer[out->chosen & 1].locator, source)) {
		flow->current = from;
		return 1;
	}
	follows = out && may_follow(flow, out, from, now);
	if (!follows && now - flow->moved_ns < FOLLOW_INTERVAL)
		return 0;
	if (!may_report_of(site_of(&aids.peer), SOURCE_MOVED, REPORTS_PER_SECOND))
		return 0;
	report = bpf_ringbuf_reserve(&reports, REPORT_HEAD_OCTETS, 0);
	if (!report) {
		count(REPORTS_LOST);
		return 0;
	}
	__builtin_memset(report, 0, REPORT_HEAD_OCTETS);
	report->kind = SOURCE_MOVED;
	report->local_label = label;
	report->source = *source;
	report->followed = follows;
	flow->moved_ns = now;
	if (follows) {
		move_to(out, source);
		flow->current = from;
		flow->follow_ns = now + FOLLOW_INTERVAL;
	}
	bpf_ringbuf_submit(report, 0);
	return follows;
}

/* A packet of no flow, which the daemon answers; one with the label of a flow and wrong locators is
 * treated alike, so that silence does not disclose which labels are in use [D41].
 */
static __always_inline int of_no_flow(const struct address *source, u32 why)
{
	if (!is_of_a_host(source))
		return drop(why);
	if (!may_do_by_chance(UNKNOWN_LABEL_SEEN, source, UNKNOWN_LABELS_PER_SECOND))
		return drop(why);
	return to_slow_path();
}

/* A packet for a program appears where it would without us: on the uplink that its address belongs
 * to; so filters of reverse paths, rules for devices and bound sockets see nothing unusual. While
 * that is down, it appears on the device of ours that has the address then.
 */
static __always_inline int at_home(struct __sk_buff *packet, const struct uplink *home, u32 at)
{
	if (home && !(home->flags & UPLINK_RECEIVES))
		home = uplink_of(OWN_ROW);
	if (!home || !home->ifindex || home->ifindex == packet->ifindex)
		return TCX_NEXT;
	if (home->flags & UPLINK_ETHERNET) {
		if (!at && add_link_header(packet))
			return TCX_NEXT;
		if (bpf_skb_store_bytes(packet, 0, home->link, sizeof(home->link), 0))
			return TCX_NEXT;
	}
	count(PACKETS_DELIVERED_AT_HOME);
	return bpf_redirect(home->ifindex, BPF_F_INGRESS);
}

/* Whether a packet of a flow is a control message, which never comes out of data [D38]. */
static __always_inline int is_control(struct __sk_buff *packet, const struct ipv6 *ip, u32 at,
				      u8 slot)
{
	return slot == SLOT_ICMPV6 && ip->payload_octets &&
	       octet_behind(packet, at, 0) == settings.control_type;
}

/* Whether a packet has the source of the neighbour that our routes name. No host is that neighbour,
 * and the stack would accept its redirects: packets to a peer would wait for a host of this link.
 */
static __always_inline int is_from_gateway(const struct ipv6 *ip)
{
	const u32 *word = (const u32 *)&ip->source;

	return word[3] == bpf_htonl(GATEWAY_LAST) && word[0] == bpf_htonl(GATEWAY_FIRST) &&
	       !word[1] && !word[2];
}

/* A packet from the network. M6 stands in its header, or in hop-by-hop options right behind it. */
static __always_inline int inward(struct __sk_buff *packet, u32 at)
{
	struct address source, destination;
	struct far *rest = 0;
	struct inbound *flow;
	struct ipv6 *ip, before;
	u32 label;
	u8 slot, from, to;
	int next;

	/* A frame to another link address is not for this host: for a bridge or a macvlan, or for
	 * none. */
	if (packet->protocol != bpf_htons(ETH_P_IPV6) || packet->pkt_type == PACKET_OTHERHOST)
		return TCX_NEXT;
	ip = header(packet, at);
	if (!ip || (ip->first & VERSION_MASK) != VERSION_6)
		return TCX_NEXT;
	next = ip->next_header;
	if (next == HOP_BY_HOP)
		next = octet_behind(packet, at, 0);
	if (next < 0 || !is_m6(next))
		return is_from_gateway(ip) ? drop(REFUSED_SOURCE_OF_NO_HOST) : TCX_NEXT;
	if (is_of_a_vlan(packet)) {
		count(PACKETS_OF_OTHER_VLAN); /* for another device, whose own programs will see it
					       */
		return TCX_NEXT;
	}
	if (packet->vlan_present) { /* a device of ours would take the tag for octets of the packet */
		if (bpf_skb_vlan_pop(packet))
			return TCX_NEXT;
		ip = header(packet, at);
		if (!ip)
			return TCX_NEXT;
	}
	source = ip->source;
	if (ip->next_header == HOP_BY_HOP) {
		if (!is_own(ip->destination))
			return TCX_NEXT;
		return may_do(OPTION_SEEN, &source, OPTIONS_PER_SECOND) ? to_slow_path()
									: drop(REFUSED_OVER_SHARE);
	}
	slot = ip->next_header - settings.rewritable_first;
	if (slot >= SLOTS)
		slot = ip->next_header - settings.fixed_first;
	label = ip->first & LABEL_MASK;
	destination = ip->destination;
	flow = bpf_map_lookup_elem(&inbound, &label);
	if (!flow || (slot == SLOT_ICMPV6 && !label)) {
		if (!is_own(ip->destination))
			return TCX_NEXT;
		if (is_cut_short(ip, packet->len - at))
			return drop(REFUSED_MALFORMED);
		if (!is_of_a_host(&source))
			return drop(REFUSED_SOURCE_OF_NO_HOST);
		if (slot == SLOT_ICMPV6 && !label)
			return message_in_slot(packet, at, &source, &destination);
		return of_no_flow(&source, REFUSED_UNKNOWN_LABEL);
	}
	if (flow->flags & IN_FAR)
		rest = bpf_map_lookup_elem(&far, &label);
	to = place(&flow->near[0].local, flow->local_count, rest ? rest->local : 0,
		   rest ? rest->local_count : 0, &destination);
	if (to == NOWHERE && !is_own(ip->destination))
		return TCX_NEXT;
	if (is_cut_short(ip, packet->len - at))
		return drop(REFUSED_MALFORMED);
	if (to == NOWHERE)
		return of_no_flow(&source, REFUSED_DESTINATION);
	from = place(&flow->near[0].peer, flow->peer_count, rest ? rest->peer : 0,
		     rest ? rest->peer_count : 0, &source);
	if (from == NOWHERE)
		return of_no_flow(&source, REFUSED_SOURCE);
	if (slot == SLOT_RESERVED)
		return drop(REFUSED_RESERVED_SLOT);
	if (is_control(packet, ip, at, slot))
		return drop(REFUSED_CONTROL_AS_DATA);
	if (slot == SLOT_ESCAPE || flow->flags & IN_HOLDS)
		return may_do(ESCAPE_SEEN, &source, ESCAPES_PER_SECOND) ? to_slow_path()
									: drop(REFUSED_OVER_SHARE);

	if (from == flow->current || follow(flow, label, from, &source))
		hear(flow, label);
	else
		owe(flow, label, flow->received_ns);
	ip = header(packet, at);
	if (!ip)
		return TCX_NEXT;
	before = *ip;
	restore(ip, flow, slot);
	/* A device that has summed up the whole packet must not find it wrong now. */
	if (bpf_csum_update(packet, 0) != NOT_SUMMED) {
		long difference = bpf_csum_diff(&before, IPV6_OCTETS, ip, IPV6_OCTETS, 0);

		if (difference >= 0)
			bpf_csum_update(packet, difference);
	}
	count(PACKETS_RECEIVED);
	if (to != flow->own)
		count(PACKETS_RECEIVED_ELSEWHERE); /* changes nothing [draft 7.11 2c] */
	return flow->home ? at_home(packet, uplink_of(flow->home), at) : TCX_NEXT;
}

/* A packet that the daemon delivers. */
static __always_inline int delivered(struct __sk_buff *packet)
{
	struct ipv6 *ip = header(packet, 0);

	if (packet->protocol != bpf_htons(ETH_P_IPV6) || !ip)
		return TCX_NEXT;
	return at_home(packet, uplink_having(ip->destination), 0);
}
