/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What a TCP connection of this host sends again next: only the kernel knows. */
#pragma once
#include "shim.h"

/* The packet is the start of a segment to this host. The program writes the sequence number of the
 * first octet that the peer has not acknowledged; TCX_DROP: there is such a connection.
 */
static __always_inline int stalled(struct __sk_buff *packet)
{
	struct bpf_sock_tuple ends = {};
	int found = TCX_NEXT;
	struct bpf_tcp_sock *tcp;
	struct bpf_sock *socket;
	u32 first;

	if (bpf_skb_load_bytes(packet, ETH_HLEN + 8, &ends, 32) ||
	    bpf_skb_load_bytes(packet, ETH_HLEN + IPV6_OCTETS, &ends.sport, 4))
		return TCX_NEXT;
	socket = bpf_sk_lookup_tcp(packet, &ends, sizeof(ends), BPF_F_CURRENT_NETNS, 0);
	if (!socket)
		return TCX_NEXT;
	tcp = bpf_tcp_sock(socket);
	if (tcp) {
		first = bpf_htonl(tcp->snd_una);
		if (!bpf_skb_store_bytes(packet, ETH_HLEN + IPV6_OCTETS + 4, &first, 4, 0))
			found = TCX_DROP;
	}
	bpf_sk_release(socket);
	return found;
}
