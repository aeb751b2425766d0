/* A packet that leaves: from between AIDs to between locators. */
#pragma once
#include "silence.h"

#define LINK_TICKS 25			/* how long an Ethernet header that was learnt is used */
#define PLAIN_INTERVAL (SECOND / 100)	/* between two reports about one watched AID */
#define STRANGERS_PER_SECOND 200
#define STRANGER_INTERVAL (60 * SECOND)	/* the same about one stranger */
#define GLOBAL_UNICAST 0x20		/* in the three first bits of an address (2000::/3) */
#define OUT_ANY (OUT_CUT_TCP | OUT_CUT_UDP | OUT_SUM)

/* Asks the daemon whether an unknown peer is an M6 host [D34], once in STRANGER_INTERVAL. */
INLINE void report_stranger(const struct address *peer)
{
	struct watched *known, seen = { .reported_ns = time_ns() };
	struct report *report;

	if ((*(const u8 *)peer & 0xe0) != GLOBAL_UNICAST)
		return;
	known = map_find(&strangers, peer);
	if (known && seen.reported_ns - known->reported_ns < STRANGER_INTERVAL)
		return;
	map_put(&strangers, peer, &seen, 0);
	if (!may_report(UNKNOWN_PEER, seen.reported_ns, STRANGERS_PER_SECOND))
		return;
	report = ring_reserve(&set_ups, REPORT_HEAD_OCTETS, 0);
	if (!report)
		return; /* it is asked about again later */
	__builtin_memset(report, 0, REPORT_HEAD_OCTETS);
	report->kind = UNKNOWN_PEER;
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
			report_stranger(&peer);
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

/* Takes a packet that no uplink carries now. Dropped, it would be a local congestion to TCP, which
 * then waits before it sends again; redirected to no device, it is lost like any other.
 */
INLINE int lose(void)
{
	count(NO_UPLINK);
	return redirect(~0U >> 1, 0);
}

/* Has the kernel find route and neighbour of a packet, and send it by an uplink. */
INLINE int scout_out(struct __sk_buff *packet, const struct ipv6 *ip, u32 ifindex,
		     const struct pair *aids)
{
	u32 first = 0;
	struct scout *scout = map_find(&scouts, &first);

	if (scout) {
		scout->aids = *aids;
		scout->addresses.local = ip->source;
		scout->addresses.peer = ip->destination;
		scout->mark = packet->mark;
		scout->is_out = 1;
	}
	packet->mark = settings.mark;
	return redirect_to_neighbour(ifindex, 0, 0, 0);
}

/* Whether a packet with our mark is a scout, and not the daemon's own; it has its mark back then. */
INLINE struct scout *returned_scout(struct __sk_buff *packet, const struct ipv6 *ip)
{
	u32 first = 0;
	struct scout *scout = map_find(&scouts, &first);

	if (!scout || !scout->is_out || !same(&scout->addresses.local, &ip->source) ||
	    !same(&scout->addresses.peer, &ip->destination))
		return 0;
	scout->is_out = 0;
	packet->mark = scout->mark;
	return scout;
}

/* Whether a packet with our mark is the daemon's own. Any other is a scout that has waited for its
 * neighbour while another was sent by this processor: it gets back the mark of its socket.
 */
INLINE int is_of_daemon(struct __sk_buff *packet)
{
	struct bpf_sock *socket = 0;
	u64 any = packet->sk;

	if (any)
		socket = full_socket(any);
	if (socket && socket->mark == settings.mark)
		return 1;
	packet->mark = socket ? socket->mark : 0;
	return 0;
}

/* Puts the Ethernet header that leads to a peer, if it is known. */
INLINE int put_link(struct ipv6 *ip, u32 at, const struct towards *peer)
{
	if (at != ETHERNET_OCTETS || ticks() >= peer->until)
		return 0;
	__builtin_memcpy((u8 *)ip - at, peer->link, sizeof(peer->link));
	return 1;
}

/* Sends a packet with its new header out by the uplink of its flow. */
INLINE int send_by(struct __sk_buff *packet, struct ipv6 *ip, u32 at, const struct uplink *uplink,
		   struct towards *peer, const struct pair *aids)
{
	if (!(uplink->flags & UPLINK_ETHERNET))
		return redirect(uplink->ifindex, 0);
	if (!at) {
		if (add_link_header(packet))
			return lose();
		at = ETHERNET_OCTETS;
		ip = header(packet, at);
		if (!ip)
			return lose();
	}
	if (put_link(ip, at, peer))
		return redirect(uplink->ifindex, 0);
	return scout_out(packet, ip, uplink->ifindex, aids);
}

/* Whether a packet was routed to an M6 peer by us: to a neighbour that is none, so that it came here
 * without waiting for a neighbour of this uplink.
 */
INLINE int is_led(const struct ipv6 *ip, u32 at)
{
	const u8 *to = (const u8 *)ip - ETHERNET_OCTETS;

	return at == ETHERNET_OCTETS && to[0] == 2 && !to[1] && !to[2] && !to[3] &&
	       to[4] == 0x6d && to[5] == 0x36;
}

/* Learns the Ethernet header of a scout; those that follow have the same for as long as that holds. */
INLINE void learn_link(const struct ipv6 *ip, struct scout *scout)
{
	const u8 *link = (const u8 *)ip - ETHERNET_OCTETS;
	struct outbound *flow = map_find(&outbound, &scout->aids);
	struct towards *peer;

	if (!flow || !same(&flow->local_locator, &ip->source))
		return;
	peer = &flow->peer[flow->chosen & 1];
	if (!same(&peer->locator, &ip->destination))
		return;
	__builtin_memcpy(peer->link, link, sizeof(peer->link));
	peer->until = ticks() + LINK_TICKS;
}

/* An M6 packet on an uplink: our own work, which has come as far as we see. */
INLINE int is_away(struct __sk_buff *packet, const struct ipv6 *ip, u32 at, struct scout *scout)
{
	u32 from = packet->ingress_ifindex;

	if (scout && at == ETHERNET_OCTETS)
		learn_link(ip, scout);
	if (!from || from == settings.own_ifindex) /* not one that we forward for others */
		count(SENT);
	return TC_PASS;
}

/* Where a packet of the ULP is seen. */
enum place {
	ON_UPLINK,	/* its route leads out there */
	ON_OURS,	/* its route leads to the device of ours */
	CUT,		/* it comes out of the segmenter */
};

/* Whether a packet does not go beyond its link, and so is not for a peer. */
INLINE int stays_on_link(const struct ipv6 *ip)
{
	const u8 *to = (const u8 *)&ip->destination;

	return to[0] == 0xff || (to[0] == 0xfe && (to[1] & 0xc0) == 0x80);
}

/* Whether the uplink of a packet's source is up: then only a program that is bound to the device of
 * ours, past the rules for that uplink, sends it there.
 */
INLINE int is_astray(const struct ipv6 *ip)
{
	struct uplink *uplink = uplink_having(ip->source);

	return uplink && uplink->flags & UPLINK_RECEIVES;
}

/* A packet to a peer, that no flow carries, and that was routed by us: to the uplink of its source.
 * Of an unknown source the daemon knows the route.
 */
INLINE int to_its_uplink(struct __sk_buff *packet, struct ipv6 *ip, u32 at,
			 const struct pair *aids, enum place place)
{
	struct uplink *uplink = uplink_having(ip->source);

	if (stays_on_link(ip))
		return TC_DROP; /* such as one to the neighbour that is none itself */
	if (!uplink) /* the daemon may be gone, and the address new */
		return place == ON_UPLINK ? scout_out(packet, ip, packet->ifindex, aids) :
					    go_slowly();
	plainly(packet, ip, at);
	ip = header(packet, at);
	if (!ip || !(uplink->flags & UPLINK_SENDS))
		return lose();
	if (!(uplink->flags & UPLINK_ETHERNET))
		return redirect(uplink->ifindex, 0);
	return scout_out(packet, ip, uplink->ifindex, aids);
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
 */
INLINE int outward(struct __sk_buff *packet, u32 at, enum place place)
{
	struct scout *scout = 0;
	struct outbound *flow;
	struct uplink *uplink;
	struct towards *peer;
	struct pair aids;
	struct ipv6 *ip;
	u8 slot, protocol;
	int is_native, as_it_is;

	if (packet->protocol != NETWORK16(ETHERTYPE_IPV6))
		return TC_PASS;
	ip = header(packet, at);
	if (!ip)
		return TC_PASS;
	if (packet->mark == settings.mark) {
		scout = returned_scout(packet, ip);
		if (!scout && is_of_daemon(packet))
			return TC_PASS;
		if (!is_m6(ip->next_header))
			return TC_PASS;
	}
	if (is_m6(ip->next_header))
		return place == ON_UPLINK ? is_away(packet, ip, at, scout) : TC_PASS;
	if (is_of_the_link(packet, ip, at))
		return TC_PASS;
	if (place == ON_OURS && is_astray(ip))
		return TC_PASS;
	aids.local = ip->source;
	aids.peer = ip->destination;
	flow = map_find(&outbound, &aids);
	is_native = place == ON_UPLINK && !is_led(ip, at);
	if (!flow)
		return is_native ? plainly(packet, ip, at) :
				   to_its_uplink(packet, ip, at, &aids, place);
	uplink = uplink_of(flow->uplink);
	if (!uplink)
		return TC_PASS;

	protocol = ip->next_header;
	slot = slot_of(protocol);
	if (slot == NO_SLOT) {
		/* An option in front of more than 64 KiB is the kernel's, and goes with the cutting. */
		if (place != CUT && protocol == HOP_BY_HOP && super_octets(packet))
			return cut_first();
		return go_slowly();
	}
	if (place != CUT && uplink->flags & OUT_ANY && needs_segmenter(packet, uplink->flags, protocol))
		return cut_first();
	peer = &flow->peer[flow->chosen & 1];
	as_it_is = place == ON_UPLINK && packet->ifindex == uplink->ifindex &&
		   same(&aids.local, &flow->local_locator) &&
		   same(&aids.peer, &peer->locator);
	if (!as_it_is && is_too_long(packet, protocol, at, uplink->mtu))
		return go_slowly();
	watch_silence(packet, flow, &aids, protocol, at);
	if (!(uplink->flags & UPLINK_SENDS)) {
		report_silence(packet, flow, at, time_ns());
		return lose();
	}

	ip = header(packet, at);
	if (!ip)
		return TC_PASS;
	ip->first = (ip->first & ~LABEL_MASK) | flow->peer_label;
	ip->next_header = flow->next_header_first + slot;
	ip->source = flow->local_locator;
	ip->destination = peer->locator;
	if (as_it_is && (is_native || put_link(ip, at, peer))) {
		count(SENT);
		return TC_PASS;
	}
	return send_by(packet, ip, at, uplink, peer, &aids);
}

/* The same on a device of ours, from which nothing leads on: a packet that was not for it is lost. */
INLINE int outward_from_ours(struct __sk_buff *packet, enum place place)
{
	int verdict = outward(packet, ETHERNET_OCTETS, place);

	return verdict == TC_PASS ? TC_DROP : verdict;
}
