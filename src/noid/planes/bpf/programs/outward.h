/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A packet that leaves: from between AIDs to between locators. */
#pragma once
#include "scouts.h"
#include "silence.h"

#define LINK_TICKS 25		      /* how long an Ethernet header that was learnt is used */
#define PLAIN_INTERVAL (SECOND / 100) /* between two reports about one watched AID */
#define STRANGERS_PER_SECOND 200
#define STRANGER_INTERVAL (60 * SECOND) /* the same about one stranger */
#define GLOBAL_UNICAST 0x20		/* in the three first bits of an address (2000::/3) */
#define UNREACHABLE 1
#define ECHO_REQUEST 128
#define TCP_FLAGS_AT 13
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define OUT_ANY (OUT_CUT_TCP | OUT_CUT_UDP | OUT_SUM)

/* Whether the stack may have sent a packet in answer to what any host can send: an echo reply, an
 * error, a refusal, the second packet of a handshake. No question is asked because of it [D31].
 */
static __always_inline int is_answer(struct __sk_buff *packet, u8 protocol, u32 at)
{
	int flags;

	if (protocol == ICMPV6)
		return octet_behind(packet, at, 0) != ECHO_REQUEST;
	if (protocol != TCP)
		return 0;
	flags = octet_behind(packet, at, TCP_FLAGS_AT);
	return flags < 0 || flags & TCP_RST || (flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK);
}

/* Asks the daemon whether an unknown peer is an M6 host [D34], once in STRANGER_INTERVAL, and not
 * because of guests behind a bridge or of containers, whose packets leave by an uplink, too.
 */
static __always_inline void report_stranger(struct __sk_buff *packet, const struct ipv6 *ip,
					    const struct address *peer)
{
	struct watched *known, seen = {.reported_ns = bpf_ktime_get_ns()};
	u32 user = bpf_get_socket_uid(packet);
	struct report *report;

	if ((*(const u8 *)peer & 0xe0) != GLOBAL_UNICAST)
		return;
	known = bpf_map_lookup_elem(&strangers, peer);
	if (known && seen.reported_ns - known->reported_ns < STRANGER_INTERVAL)
		return;
	if (!is_own(ip->source) || !may_report_of(user, UNKNOWN_PEER, STRANGERS_PER_SECOND))
		return;
	report = bpf_ringbuf_reserve(&set_ups, REPORT_HEAD_OCTETS, 0);
	if (!report) {
		count(REPORTS_LOST);
		return; /* the next packet to the peer reports it */
	}
	bpf_map_update_elem(&strangers, peer, &seen, 0);
	__builtin_memset(report, 0, REPORT_HEAD_OCTETS);
	report->kind = UNKNOWN_PEER;
	report->source = *peer;
	report->user = user;
	bpf_ringbuf_submit(report, 0);
}

/* A packet that no flow carries passes; the daemon may want to know of it. */
static __always_inline int plainly(struct __sk_buff *packet, struct ipv6 *ip, u32 at)
{
	struct address peer = ip->destination;
	struct watched *known = bpf_map_lookup_elem(&watched, &peer);
	struct report *report;
	u64 now;

	if (!known) {
		if (settings.referrals && !is_answer(packet, ip->next_header, at))
			report_stranger(packet, ip, &peer);
		return TCX_NEXT;
	}
	if (!is_own(ip->source))
		return TCX_NEXT;
	count(PACKETS_SENT_PLAINLY);
	now = bpf_ktime_get_ns();
	if (now - known->reported_ns < PLAIN_INTERVAL)
		return TCX_NEXT;
	report = begin_report(packet, PLAIN_PACKET, 0, at);
	if (report) {
		known->reported_ns = now;
		bpf_ringbuf_submit(report, 0);
	}
	return TCX_NEXT;
}

/* Whether a packet is longer than its uplink's MTU, as a whole or in the segments it is cut to. */
static __always_inline int is_too_long(struct __sk_buff *packet, u8 protocol, u32 at, u32 mtu)
{
	u32 segment = super_octets(packet);
	int words;

	if (!segment)
		return packet->len - at > mtu;
	if (protocol != TCP)
		return segment + IPV6_OCTETS + 8 > mtu;
	words = octet_behind(packet, at, 12);
	return words < 0 || segment + IPV6_OCTETS + (words >> 4) * 4 > mtu;
}

/* Whether the uplink could not finish a packet once its next header is M6. The segmenter can
 * before: the kernel cuts and sums up there what its device does not do.
 */
static __always_inline int needs_segmenter(struct __sk_buff *packet, u8 flags, u8 protocol)
{
	if (flags & OUT_SUM)
		return 1;
	return (flags & (protocol == TCP ? OUT_CUT_TCP : OUT_CUT_UDP)) && super_octets(packet);
}

static __always_inline int cut_first(void)
{
	count(PACKETS_CUT);
	return bpf_redirect(settings.segmenter_ifindex, 0);
}

/* Takes a packet that no uplink carries now. Dropped, it would be a local congestion to TCP, which
 * then waits before it sends again; redirected to no device, it is lost like any other.
 */
static __always_inline int lose(void)
{
	count(PACKETS_WITHOUT_UPLINK);
	return bpf_redirect(~0U >> 1, 0);
}

/* Puts the Ethernet header that leads to a peer, if it is known. */
static __always_inline int put_link(struct ipv6 *ip, u32 at, const struct towards *peer)
{
	if (at != ETH_HLEN || bpf_jiffies64() >= peer->until)
		return 0;
	__builtin_memcpy((u8 *)ip - at, peer->link, sizeof(peer->link));
	return 1;
}

/* Sends a packet with its new header out by the uplink of its flow. */
static __always_inline int send_by(struct __sk_buff *packet, struct ipv6 *ip, u32 at,
				   const struct uplink *uplink, struct towards *peer,
				   const struct pair *aids)
{
	if (!(uplink->flags & UPLINK_ETHERNET))
		return bpf_redirect(uplink->ifindex, 0);
	if (!at) {
		if (add_link_header(packet))
			return lose();
		at = ETH_HLEN;
		ip = header(packet, at);
		if (!ip)
			return lose();
	}
	if (put_link(ip, at, peer))
		return bpf_redirect(uplink->ifindex, 0);
	return scout_out(packet, ip, uplink->ifindex, aids);
}

/* Whether a packet was routed to an M6 peer by us: to a neighbour that is none, so that it came
 * here without waiting for a neighbour of this uplink.
 */
static __always_inline int is_led(const struct ipv6 *ip, u32 at)
{
	const u8 *to = (const u8 *)ip - ETH_HLEN;

	return at == ETH_HLEN && to[0] == 2 && !to[1] && !to[2] && !to[3] && to[4] == 0x6d &&
	       to[5] == 0x36;
}

/* Learns the Ethernet header of a scout; those that follow have the same for as long as that holds.
 */
static __always_inline void learn_link(const struct ipv6 *ip, struct scout *scout)
{
	const u8 *link = (const u8 *)ip - ETH_HLEN;
	struct outbound *flow = bpf_map_lookup_elem(&outbound, &scout->aids);
	struct towards *peer;

	if (!flow || !same(&flow->local_locator, &ip->source))
		return;
	peer = &flow->peer[flow->chosen & 1];
	if (!same(&peer->locator, &ip->destination))
		return;
	__builtin_memcpy(peer->link, link, sizeof(peer->link));
	peer->until = bpf_jiffies64() + LINK_TICKS;
}

/* An M6 packet on an uplink: our own work, which has come as far as we see. */
static __always_inline int is_away(struct __sk_buff *packet, const struct ipv6 *ip, u32 at,
				   struct scout *scout)
{
	u32 from = packet->ingress_ifindex;

	if (scout && at == ETH_HLEN)
		learn_link(ip, scout);
	if (!from || from == settings.own_ifindex) /* not one that we forward for others */
		count(PACKETS_SENT);
	return TCX_NEXT;
}

/* Where a packet of the ULP is seen. */
enum place {
	ON_UPLINK, /* its route leads out there */
	ON_OURS,   /* its route leads to the device of ours */
	CUT,	   /* it comes out of the segmenter */
};

/* Whether a packet does not go beyond its link, and so is not for a peer. */
static __always_inline int stays_on_link(const struct ipv6 *ip)
{
	const u8 *to = (const u8 *)&ip->destination;

	return to[0] == 0xff || (to[0] == 0xfe && (to[1] & 0xc0) == 0x80);
}

/* Whether the uplink of a packet's source sends: then only a program that is bound to the device of
 * ours, past the rules for that uplink, sends it there. An uplink without a carrier is up, and the
 * kernel may ignore its routes (ignore_routes_with_linkdown).
 */
static __always_inline int is_astray(const struct ipv6 *ip)
{
	struct uplink *uplink = uplink_having(ip->source);

	return uplink && uplink->flags & UPLINK_SENDS;
}

/* Whether a packet with the source of an uplink that is down refuses one that came for it by another
 * uplink. That appeared on the device of ours, where a socket that is bound to the uplink does not
 * get it; so the stack knows no socket for it. Without us nothing would have come.
 */
static __always_inline int refuses_in_vain(struct __sk_buff *packet, const struct ipv6 *ip, u32 at)
{
	int flags;

	if (packet->ingress_ifindex || !uplink_having(ip->source))
		return 0; /* of a guest or a container; or the address is gone for good */
	if (ip->next_header == TCP) {
		if (packet->sk)
			return 0;
		flags = octet_behind(packet, at, TCP_FLAGS_AT);
		return flags >= 0 && flags & TCP_RST;
	}
	return ip->next_header == ICMPV6 && octet_behind(packet, at, 0) == UNREACHABLE;
}

/* Sends a packet that is not rewritten by the uplink of its source. */
static __always_inline int send_as_it_is(struct __sk_buff *packet, const struct ipv6 *ip,
					 const struct uplink *uplink, const struct pair *ends)
{
	if (!(uplink->flags & UPLINK_SENDS))
		return lose();
	if (!(uplink->flags & UPLINK_ETHERNET))
		return bpf_redirect(uplink->ifindex, 0);
	return scout_out(packet, ip, uplink->ifindex, ends);
}

/* A packet to a peer, that no flow carries, and that was routed by us: to the uplink of its source.
 * Of an unknown source the daemon knows the route.
 */
static __always_inline int to_its_uplink(struct __sk_buff *packet, struct ipv6 *ip, u32 at,
					 const struct pair *aids, enum place place)
{
	struct uplink *uplink = uplink_having(ip->source);

	if (stays_on_link(ip))
		return TCX_DROP; /* such as one to the neighbour that is none itself */
	if (!uplink)		 /* the daemon may be gone, and the address new */
		return place == ON_UPLINK ? scout_out(packet, ip, packet->ifindex, aids)
					  : to_slow_path();
	plainly(packet, ip, at);
	ip = header(packet, at);
	return ip ? send_as_it_is(packet, ip, uplink, aids) : lose();
}

/* Whether a packet without our mark is from a socket that has it: one of the daemon, to which a rule
 * of the host has given another mark, such as that of its connection. Only what is M6: the packets
 * of a tunnel keep the socket of what they carry, such as a query of the stub.
 */
static __always_inline int has_lost_our_mark(struct __sk_buff *packet, const struct ipv6 *ip, u32 at)
{
	if (!is_m6(ip->next_header) && (ip->next_header != ICMPV6 ||
					octet_behind(packet, at, 0) != settings.control_type))
		return 0;
	return mark_of_socket(packet) == settings.mark;
}

/* Sends such a packet by the uplink of its source. The routing rules have led it like any other,
 * perhaps by us, perhaps by another uplink.
 */
static __always_inline int without_our_mark(struct __sk_buff *packet, const struct ipv6 *ip, u32 at,
					    enum place place)
{
	struct uplink *uplink = uplink_having(ip->source);
	struct pair ends = {.local = ip->source, .peer = ip->destination};

	if (place == ON_UPLINK && !is_led(ip, at) &&
	    (!uplink || uplink->ifindex == packet->ifindex))
		return is_m6(ip->next_header) ? is_away(packet, ip, at, 0) : TCX_NEXT;
	return uplink && !stays_on_link(ip) ? send_as_it_is(packet, ip, uplink, &ends) : lose();
}

/* Whether a packet is for neighbour discovery, which is the link's own and stays out [D23]. */
static __always_inline int is_of_the_link(struct __sk_buff *packet, const struct ipv6 *ip, u32 at)
{
	int type = ip->next_header == ICMPV6 ? octet_behind(packet, at, 0) : -1;

	return type >= ROUTER_SOLICITATION && type <= LINK_REDIRECT;
}

/* A packet of the ULP.
 *
 * at: octets of its link-layer header.
 */
static __always_inline int outward(struct __sk_buff *packet, u32 at, enum place place)
{
	struct scout *scout = 0;
	struct outbound *flow;
	struct uplink *uplink;
	struct towards *peer;
	struct pair aids;
	struct ipv6 *ip;
	u8 slot, protocol;
	int is_native, as_it_is;

	if (packet->protocol != bpf_htons(ETH_P_IPV6))
		return TCX_NEXT;
	ip = header(packet, at);
	if (!ip)
		return TCX_NEXT;
	if (packet->mark == settings.mark) {
		scout = returned_scout(packet, ip);
		if (!scout && is_of_daemon(packet))
			return TCX_NEXT;
		if (!is_m6(ip->next_header))
			return TCX_NEXT;
	} else if (has_lost_our_mark(packet, ip, at)) {
		return without_our_mark(packet, ip, at, place);
	}
	if (is_m6(ip->next_header))
		return place == ON_UPLINK ? is_away(packet, ip, at, scout) : TCX_NEXT;
	if (is_of_the_link(packet, ip, at))
		return TCX_NEXT;
	if (place == ON_OURS && is_astray(ip))
		return TCX_NEXT;
	if (place == ON_OURS && refuses_in_vain(packet, ip, at))
		return lose();
	aids.local = ip->source;
	aids.peer = ip->destination;
	flow = bpf_map_lookup_elem(&outbound, &aids);
	is_native = place == ON_UPLINK && !is_led(ip, at);
	if (!flow)
		return is_native ? plainly(packet, ip, at)
				 : to_its_uplink(packet, ip, at, &aids, place);
	uplink = uplink_of(flow->uplink);
	if (!uplink)
		return TCX_NEXT;

	protocol = ip->next_header;
	slot = slot_of(protocol);
	if (slot == NO_SLOT) {
		/* An option in front of more than 64 KiB is the kernel's, and goes with the
		 * cutting. */
		if (place != CUT && protocol == HOP_BY_HOP && super_octets(packet))
			return cut_first();
		return to_slow_path();
	}
	if (place != CUT && uplink->flags & OUT_ANY &&
	    needs_segmenter(packet, uplink->flags, protocol))
		return cut_first();
	peer = &flow->peer[flow->chosen & 1];
	if (place != CUT && protocol == TCP && super_octets(packet) && is_cut(flow, &peer->locator))
		return cut_first();
	as_it_is = place == ON_UPLINK && packet->ifindex == uplink->ifindex &&
		   same(&aids.local, &flow->local_locator) && same(&aids.peer, &peer->locator);
	if (!as_it_is && is_too_long(packet, protocol, at, uplink->mtu))
		return to_slow_path();
	watch_silence(packet, flow, &aids, protocol, at);
	if (!(uplink->flags & UPLINK_SENDS)) {
		report_silence(packet, flow, at, bpf_ktime_get_ns());
		return lose();
	}

	ip = header(packet, at);
	if (!ip)
		return TCX_NEXT;
	ip->first = (ip->first & ~LABEL_MASK) | flow->peer_label;
	ip->next_header = flow->next_header_first + slot;
	ip->source = flow->local_locator;
	ip->destination = peer->locator;
	if (as_it_is && (is_native || put_link(ip, at, peer))) {
		count(PACKETS_SENT);
		return TCX_NEXT;
	}
	return send_by(packet, ip, at, uplink, peer, &aids);
}

/* The same on a device of ours, from which nothing leads on: a packet that was not for it is lost.
 */
static __always_inline int outward_from_ours(struct __sk_buff *packet, enum place place)
{
	int verdict = outward(packet, ETH_HLEN, place);

	return verdict == TCX_NEXT ? TCX_DROP : verdict;
}
