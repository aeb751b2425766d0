/* The data plane of a host in the kernel, by the law of noid.plane.rewrite.
 *
 * host_egress and host_ingress stand on every uplink. What is rare goes to the daemon: packets are
 * redirected, as they are, into a device behind which it does the same in Python. When the daemon is
 * gone so is that device, and these few packets are lost; all others go on. In doubt a packet
 * passes as it is.
 */
#include "tables.h"

#define FOLLOW_INTERVAL SECOND		/* [D21] */
#define LINK_INTERVAL (SECOND / 10)	/* how long an Ethernet header that was learnt is used */
#define PLAIN_INTERVAL (SECOND / 100)	/* between two reports about one watched AID */
#define STRANGER_INTERVAL (60 * SECOND)	/* the same about one stranger */
#define GLOBAL_UNICAST 0x20		/* in the three first bits of an address (2000::/3) */
#define UNKNOWN_LABELS_PER_SECOND 200
#define NOT_SUMMED (-524)		/* packet_sum_update(): the device did not sum up */

INLINE int is_m6(u8 next_header)
{
	return (u8)(next_header - settings.rewritable_first) < SLOTS ||
	       (u8)(next_header - settings.fixed_first) < SLOTS;
}

/* --- out --------------------------------------------------------------------------------------- */

/* Asks the daemon whether a peer nobody has told us of is an M6 host [D34]; seldom. */
INLINE void report_stranger(struct __sk_buff *packet, const struct address *peer, u32 at)
{
	struct watched *known, seen = { .reported_ns = time_ns() };
	struct report *report;

	if ((*(const u8 *)peer & 0xe0) != GLOBAL_UNICAST)
		return;
	known = map_find(&strangers, peer);
	if (known && seen.reported_ns - known->reported_ns < STRANGER_INTERVAL)
		return;
	map_put(&strangers, peer, &seen, 0);
	report = begin_report(packet, UNKNOWN_PEER, 0, at, seen.reported_ns);
	if (!report)
		return;
	report->source = *peer;
	ring_submit(report, 0);
}

/* A packet that no flow carries passes; the daemon may want to know of it. */
INLINE int plainly(struct __sk_buff *packet, struct ipv6 *ip, u32 at)
{
	struct address peer = ip->destination;
	struct watched *known = map_find(&watched, &peer);
	struct report *report;
	u64 now;

	if (!known) {
		if (settings.referrals)
			report_stranger(packet, &peer, at);
		return TC_PASS;
	}
	count(SENT_PLAINLY);
	now = time_ns();
	if (now - known->reported_ns < PLAIN_INTERVAL)
		return TC_PASS;
	known->reported_ns = now;
	report = begin_report(packet, PLAIN_PACKET, 0, at, now);
	if (report)
		ring_submit(report, 0);
	return TC_PASS;
}

/* Notices a packet that leaves later than T after one that nothing has answered [D20].
 *
 * Looks at what came in only once in T, so the first unanswered packet is known to T; and at the
 * clock, which costs more than a table, for the first packet of each tick.
 */
INLINE void watch_silence(struct __sk_buff *packet, struct outbound *flow, u32 at)
{
	u64 now, since = flow->unanswered_ns;
	u32 tick = ticks();
	struct inbound *back;
	struct report *report;

	if (flow->tick == tick)
		return;
	flow->tick = tick;
	now = time_ns();
	if (now - since <= flow->silence_ns)
		return;
	if (!since) {
		flow->unanswered_ns = now;
		return;
	}
	back = map_find(&inbound, &flow->local_label);
	if (!back)
		return;
	if (back->answered || back->received_ns >= since) {
		back->answered = 0;
		flow->unanswered_ns = now;
		return;
	}
	if (now - flow->reported_ns <= flow->silence_ns)
		return;
	flow->reported_ns = now;
	report = begin_report(packet, UNANSWERED_PACKET, flow->local_label, at, now);
	if (!report)
		return;
	report->silent_ns = now - since;
	ring_submit(report, 0);
}

/* Whether a packet is longer than its uplink's MTU, as a whole or in the segments it is cut to. */
INLINE int is_too_long(struct __sk_buff *packet, u8 protocol, u32 at, u32 mtu)
{
	u32 segment = super_octets(packet);
	u8 words;

	if (!segment)
		return packet->len - at > mtu;
	if (protocol != TCP)
		return segment + IPV6_OCTETS + 8 > mtu;
	if (packet_read(packet, at + IPV6_OCTETS + 12, &words, 1))
		return 1;
	return segment + IPV6_OCTETS + (words >> 4) * 4 > mtu;
}

/* Whether the uplink could not finish a packet once its next header is M6. The segmenter can before:
 * the kernel cuts and sums up there what its device does not do.
 */
INLINE int needs_segmenter(struct __sk_buff *packet, u8 flags, u8 protocol)
{
	if (flags & OUT_SUM)
		return 1;
	return (flags & (protocol == TCP ? OUT_CUT_TCP : OUT_CUT_UDP)) && super_octets(packet);
}

INLINE int cut_first(void)
{
	count(CUT_FIRST);
	return redirect(settings.segmenter_ifindex, 0);
}

/* Sends a packet with its new header out by the uplink of its flow.
 *
 * The kernel finds route and neighbour, and the packet shows what it found when it comes by again
 * on the uplink; those that follow go the same way, for as long as that holds.
 */
INLINE int send_by(struct __sk_buff *packet, struct ipv6 *ip, u32 at, u32 ifindex,
		   struct towards *peer, const struct pair *aids)
{
	u32 first = 0;
	struct scout *scout;

	/* Packets with a mark may have routes of their own. */
	if (at == ETHERNET_OCTETS && !packet->mark) {
		if (time_ns() < peer->until_ns) {
			__builtin_memcpy((u8 *)ip - at, peer->link, sizeof(peer->link));
			return redirect(ifindex, 0);
		}
		scout = map_find(&scouts, &first);
		if (scout) {
			scout->aids = *aids;
			scout->is_out = 1;
		}
	}
	return redirect_to_neighbour(ifindex, 0, 0, 0);
}

/* Learns the Ethernet header of a packet that comes by again, if it is out for that. */
INLINE void learn_link(struct __sk_buff *packet, const struct ipv6 *ip)
{
	const u8 *link = (const u8 *)ip - ETHERNET_OCTETS;
	struct outbound *flow;
	struct towards *peer;
	struct scout *scout;
	u32 first = 0;

	scout = map_find(&scouts, &first);
	if (!scout || !scout->is_out)
		return;
	scout->is_out = 0;
	flow = map_find(&outbound, &scout->aids);
	if (!flow || flow->ifindex != packet->ifindex || !same(&flow->local_locator, &ip->source))
		return;
	peer = &flow->peer[flow->chosen & 1];
	if (!same(&peer->locator, &ip->destination))
		return; /* another packet; that one waits for its neighbour */
	__builtin_memcpy(peer->link, link, sizeof(peer->link));
	peer->until_ns = time_ns() + LINK_INTERVAL;
}

/* Whether a packet is for neighbour discovery, which is the link's own and stays out [D23]. */
INLINE int is_of_the_link(struct __sk_buff *packet, const struct ipv6 *ip, u32 at)
{
	u8 type;

	return ip->next_header == ICMPV6 && !packet_read(packet, at + IPV6_OCTETS, &type, 1) &&
	       type >= ROUTER_SOLICITATION && type <= LINK_REDIRECT;
}

/* A packet of the ULP.
 *
 * at: octets of its link-layer header.
 * cut: whether it comes out of the segmenter, and not from the stack.
 */
INLINE int outward(struct __sk_buff *packet, u32 at, int cut)
{
	struct outbound *flow;
	struct towards *peer;
	struct pair aids;
	struct ipv6 *ip;
	u8 slot, protocol;
	int as_it_is;

	if (packet->protocol != NETWORK16(ETHERTYPE_IPV6) || packet->mark == settings.mark)
		return TC_PASS;
	ip = header(packet, at);
	if (!ip)
		return TC_PASS;
	if (is_m6(ip->next_header)) {
		/* Our own work comes by again on its way to another uplink. */
		if (at == ETHERNET_OCTETS)
			learn_link(packet, ip);
		return TC_PASS;
	}
	if (is_of_the_link(packet, ip, at))
		return TC_PASS;
	aids.local = ip->source;
	aids.peer = ip->destination;
	flow = map_find(&outbound, &aids);
	if (!flow)
		return plainly(packet, ip, at);

	protocol = ip->next_header;
	slot = slot_of(protocol);
	if (slot == NO_SLOT) {
		/* An option in front of more than 64 KiB is the kernel's, and goes with the cutting. */
		if (!cut && protocol == HOP_BY_HOP && super_octets(packet))
			return cut_first();
		return go_slowly();
	}
	if (!cut && flow->flags && needs_segmenter(packet, flow->flags, protocol))
		return cut_first();
	peer = &flow->peer[flow->chosen & 1];
	as_it_is = !cut && packet->ifindex == flow->ifindex &&
		   same(&aids.local, &flow->local_locator) &&
		   same(&aids.peer, &peer->locator);
	if (!as_it_is && is_too_long(packet, protocol, at, flow->mtu))
		return go_slowly();
	watch_silence(packet, flow, at);

	ip = header(packet, at);
	if (!ip)
		return TC_PASS;
	ip->first = (ip->first & ~LABEL_MASK) | flow->peer_label;
	ip->next_header = flow->next_header_first + slot;
	ip->source = flow->local_locator;
	ip->destination = peer->locator;
	count(SENT);
	if (as_it_is)
		return TC_PASS;
	return send_by(packet, ip, at, flow->ifindex, peer, &aids);
}

SEC("tc")
int host_egress(struct __sk_buff *packet)
{
	return outward(packet, ETHERNET_OCTETS, 0);
}

SEC("tc")
int host_egress_bare(struct __sk_buff *packet)
{
	return outward(packet, 0, 0);
}

SEC("tc")
int host_segments(struct __sk_buff *packet)
{
	int verdict = outward(packet, ETHERNET_OCTETS, 1);

	/* What has lost its flow on the way here would go to nobody. */
	return verdict == TC_PASS ? TC_DROP : verdict;
}

/* --- in ---------------------------------------------------------------------------------------- */

enum { NOWHERE = 0xff };

/* The place of a locator in the set of a flow, or NOWHERE; of those near, every other is the other
 * end's.
 */
INLINE u8 place(const struct address *near, u8 near_count, const struct address *rest, u8 far_count,
		const struct address *wanted)
{
	u8 at;

#pragma unroll
	for (at = 0; at < LOCATORS_NEAR; at++)
		if (at < near_count && same(&near[2 * at], wanted))
			return at;
	if (!rest)
		return NOWHERE;
#pragma unroll
	for (at = 0; at < LOCATORS_FAR; at++)
		if (at < far_count && same(&rest[at], wanted))
			return LOCATORS_NEAR + at;
	return NOWHERE;
}

/* Remembers that something came; asks the clock for the first packet of each tick. */
INLINE void hear(struct inbound *flow)
{
	u64 tick = ticks();

	if (!flow->answered)
		flow->answered = 1;
	if (flow->tick == tick)
		return;
	flow->tick = tick;
	flow->received_ns = time_ns();
}

/* Puts the AIDs and the protocol back. */
INLINE void restore(struct ipv6 *ip, const struct inbound *flow, u8 slot)
{
	ip->first &= ~LABEL_MASK;
	ip->next_header = protocol_of(slot);
	ip->source = flow->near[0].peer;
	ip->destination = flow->near[0].local;
}

/* Lets Lp(peer) follow to where the peer sends from, if that is verified, and says so [D21]. */
INLINE void follow(struct __sk_buff *packet, struct inbound *flow, u32 label, u8 from,
		   const struct address *source, u32 at)
{
	struct pair aids = flow->near[0];
	u64 now = time_ns();
	struct outbound *out;
	struct report *report;
	u8 followed = 0;

	if (now - flow->moved_ns < FOLLOW_INTERVAL)
		return;
	flow->moved_ns = now;
	if (flow->verified >> (from & 15) & 1) {
		out = map_find(&outbound, &aids);
		if (out && out->local_label == label) {
			u8 beside = ~out->chosen & 1;

			out->peer[beside].locator = *source;
			out->peer[beside].until_ns = 0;
			in_this_order();
			out->chosen = beside;
		}
		flow->current = from;
		followed = 1;
	}
	report = begin_report(packet, SOURCE_MOVED, label, at, now);
	if (!report)
		return;
	report->source = *source;
	report->followed = followed;
	ring_submit(report, 0);
}

INLINE int is_ours(const struct ipv6 *ip)
{
	struct address destination = ip->destination;

	return map_find(&ours, &destination) != 0;
}

/* A packet from the network. */
INLINE int inward(struct __sk_buff *packet, u32 at)
{
	struct address source, destination;
	struct far *rest = 0;
	struct inbound *flow;
	struct ipv6 *ip, before;
	u32 label;
	u8 slot, from, to;

	/* What has the link address of another host is for a bridge, a macvlan or nobody. */
	if (packet->protocol != NETWORK16(ETHERTYPE_IPV6) || packet->pkt_type == TO_ANOTHER_HOST)
		return TC_PASS;
	ip = header(packet, at);
	if (!ip)
		return TC_PASS;
	if (ip->next_header == HOP_BY_HOP) {
		u8 after;

		if (packet_read(packet, at + IPV6_OCTETS, &after, 1) || !is_m6(after) || !is_ours(ip))
			return TC_PASS;
		return go_slowly();
	}
	if (!is_m6(ip->next_header))
		return TC_PASS;
	if (packet->vlan_present) {
		count(TAGGED); /* for another device, whose own programs will see it */
		return TC_PASS;
	}
	slot = ip->next_header - settings.rewritable_first;
	if (slot >= SLOTS)
		slot = ip->next_header - settings.fixed_first;
	label = ip->first & LABEL_MASK;
	if (slot == SLOT_ICMPV6 && !label)
		return is_ours(ip) ? go_slowly() : TC_PASS; /* control [D6] */

	flow = map_find(&inbound, &label);
	if (!flow) {
		if (!is_ours(ip))
			return TC_PASS;
		if (!may_report(0, time_ns(), UNKNOWN_LABELS_PER_SECOND))
			return drop(UNKNOWN_LABEL);
		return go_slowly();
	}
	source = ip->source;
	destination = ip->destination;
	if (flow->flags & IN_FAR)
		rest = map_find(&far, &label);
	to = place(&flow->near[0].local, flow->local_count, rest ? rest->local : 0,
		   rest ? rest->local_count : 0, &destination);
	if (to == NOWHERE)
		return is_ours(ip) ? drop(DESTINATION_NOT_OURS) : TC_PASS;
	from = place(&flow->near[0].peer, flow->peer_count, rest ? rest->peer : 0,
		     rest ? rest->peer_count : 0, &source);
	if (from == NOWHERE)
		return drop(SOURCE_NOT_THE_PEERS);
	if (slot == SLOT_RESERVED)
		return drop(RESERVED_SLOT);
	if (slot == SLOT_ESCAPE || flow->flags & IN_HOLDS)
		return go_slowly();

	hear(flow);
	if (from != flow->current)
		follow(packet, flow, label, from, &source, at);
	ip = header(packet, at);
	if (!ip)
		return TC_PASS;
	before = *ip;
	restore(ip, flow, slot);
	/* A device that has summed up the whole packet must not find it wrong now. */
	if (packet_sum_update(packet, 0) != NOT_SUMMED) {
		long difference = sum_difference(&before, IPV6_OCTETS, ip, IPV6_OCTETS, 0);

		if (difference >= 0)
			packet_sum_update(packet, difference);
	}
	count(RECEIVED);
	if (to != flow->own)
		count(RECEIVED_ELSEWHERE); /* changes nothing [draft 7.11 2c] */
	return TC_PASS;
}

SEC("tc")
int host_ingress(struct __sk_buff *packet)
{
	return inward(packet, ETHERNET_OCTETS);
}

SEC("tc")
int host_ingress_bare(struct __sk_buff *packet)
{
	return inward(packet, 0);
}

/* Before the stack puts segments together, which it does not with an M6 next header (GRO). Only the
 * plainest case; what is left goes through host_ingress as if this were not here.
 */
SEC("xdp")
int host_ingress_early(struct xdp_md *frame)
{
	void *data = (void *)(long)frame->data, *end = (void *)(long)frame->data_end;
	struct ipv6 *ip = data + ETHERNET_OCTETS;
	struct address source, destination;
	struct inbound *flow;
	u32 label;
	u8 slot, from;

	if ((void *)(ip + 1) > end || *(u16 *)(data + 12) != NETWORK16(ETHERTYPE_IPV6))
		return XDP_TO_STACK;
	slot = ip->next_header - settings.rewritable_first;
	if (slot >= SLOTS)
		slot = ip->next_header - settings.fixed_first;
	label = ip->first & LABEL_MASK;
	if (slot >= SLOTS || slot == SLOT_RESERVED || slot == SLOT_ESCAPE ||
	    (slot == SLOT_ICMPV6 && !label))
		return XDP_TO_STACK;
	flow = map_find(&inbound, &label);
	if (!flow || flow->flags & IN_HOLDS)
		return XDP_TO_STACK;
	source = ip->source;
	destination = ip->destination;
	from = place(&flow->near[0].peer, flow->peer_count, 0, 0, &source);
	if (from == NOWHERE || from != flow->current ||
	    place(&flow->near[0].local, flow->local_count, 0, 0, &destination) != flow->own)
		return XDP_TO_STACK;
	hear(flow);
	restore(ip, flow, slot);
	count(RECEIVED);
	return XDP_TO_STACK;
}
