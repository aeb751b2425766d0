/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Packets whose route and neighbour the kernel looks up, and the mark by which they pass. */
#pragma once
#include "tables.h"

/* Has the kernel find route and neighbour of a packet, and send it by an uplink. */
static __always_inline int scout_out(struct __sk_buff *packet, const struct ipv6 *ip, u32 ifindex,
				     const struct pair *aids)
{
	u32 first = 0;
	struct scout *scout = bpf_map_lookup_elem(&scouts, &first);

	if (scout) {
		scout->aids = *aids;
		scout->addresses.local = ip->source;
		scout->addresses.peer = ip->destination;
		scout->mark = packet->mark;
		scout->is_out = 1;
	}
	packet->mark = settings.mark;
	return bpf_redirect_neigh(ifindex, 0, 0, 0);
}

/* Whether a packet with our mark is a scout, and not the daemon's own; it has its mark back then.
 */
static __always_inline struct scout *returned_scout(struct __sk_buff *packet, const struct ipv6 *ip)
{
	u32 first = 0;
	struct scout *scout = bpf_map_lookup_elem(&scouts, &first);

	if (!scout || !scout->is_out || !same(&scout->addresses.local, &ip->source) ||
	    !same(&scout->addresses.peer, &ip->destination))
		return 0;
	scout->is_out = 0;
	packet->mark = scout->mark;
	return scout;
}

/* The mark of a packet's socket, which rules of the host do not change; 0 if it has none. */
static __always_inline u32 mark_of_socket(struct __sk_buff *packet)
{
	struct bpf_sock *socket = 0;
	u64 any = packet->sk;

	if (any)
		socket = bpf_sk_fullsock(any);
	return socket ? socket->mark : 0;
}

/* Whether a packet with our mark is the daemon's own. Any other is a scout that has waited for its
 * neighbour while another was sent by this processor: it gets back the mark of its socket.
 */
static __always_inline int is_of_daemon(struct __sk_buff *packet)
{
	u32 mark = mark_of_socket(packet);

	if (mark == settings.mark)
		return 1;
	packet->mark = mark;
	return 0;
}
