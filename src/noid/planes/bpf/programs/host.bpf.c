// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* The data plane of a host in the kernel, by the law of noid.flows.rewrite.
 *
 * host_egress and host_ingress are attached to every uplink, host_own to the device of ours that
 * packets to M6 peers are routed to while their uplink is down. What is rare goes to the daemon:
 * packets are redirected, as they are, into a device behind which it does the same in Python. When
 * the daemon is gone so is that device, and these few packets are lost; all others go on. In doubt
 * a packet passes as it is.
 */
#include "inward.h"
#include "outward.h"
#include "stalled.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL"; /* timers need it */

SEC("tc")
int host_egress(struct __sk_buff *packet)
{
	return outward(packet, ETH_HLEN, ON_UPLINK);
}

SEC("tc")
int host_egress_bare(struct __sk_buff *packet)
{
	return outward(packet, 0, ON_UPLINK);
}

SEC("tc")
int host_own(struct __sk_buff *packet)
{
	return outward_from_ours(packet, ON_OURS);
}

SEC("tc")
int host_segments(struct __sk_buff *packet)
{
	struct ipv6 *ip = header(packet, ETH_HLEN);

	/* Restored packets arrive here too while their uplink is down (at_home). */
	if (ip && is_own(ip->destination))
		return TCX_NEXT;
	return outward_from_ours(packet, CUT);
}

SEC("tc")
int host_delivered(struct __sk_buff *packet)
{
	return delivered(packet);
}

SEC("tc")
int host_heard(struct __sk_buff *packet)
{
	return heard(packet);
}

SEC("tc")
int host_stalled(struct __sk_buff *packet)
{
	return stalled(packet);
}

SEC("tc")
int host_ingress(struct __sk_buff *packet)
{
	return inward(packet, ETH_HLEN);
}

SEC("tc")
int host_ingress_bare(struct __sk_buff *packet)
{
	return inward(packet, 0);
}

SEC("socket")
int host_named(struct __sk_buff *packet)
{
	return taken(packet, 1);
}

SEC("socket")
int host_others(struct __sk_buff *packet)
{
	return taken(packet, 0);
}

/* Before the stack puts segments together, which it does not with an M6 next header (GRO). Only the
 * plainest case; what is left goes through host_ingress as if this were not here.
 */
SEC("xdp")
int host_ingress_early(struct xdp_md *frame)
{
	void *data = (void *)(long)frame->data, *end = (void *)(long)frame->data_end;
	struct ipv6 *ip = data + ETH_HLEN;
	struct address source, destination;
	struct inbound *flow;
	struct uplink *home;
	u32 label;
	u8 slot, from;

	if ((void *)(ip + 1) > end || *(u16 *)(data + 12) != bpf_htons(ETH_P_IPV6))
		return XDP_PASS;
	if ((ip->first & VERSION_MASK) != VERSION_6 ||
	    is_cut_short(ip, frame->data_end - frame->data - ETH_HLEN))
		return XDP_PASS;
	slot = ip->next_header - settings.rewritable_first;
	if (slot >= SLOTS)
		slot = ip->next_header - settings.fixed_first;
	label = ip->first & LABEL_MASK;
	if (slot >= SLOTS || slot == SLOT_RESERVED || slot == SLOT_ESCAPE || slot == SLOT_ICMPV6)
		return XDP_PASS;
	flow = bpf_map_lookup_elem(&inbound, &label);
	if (!flow || flow->flags & IN_HOLDS)
		return XDP_PASS;
	source = ip->source;
	destination = ip->destination;
	from = place(&flow->near[0].peer, flow->peer_count, 0, 0, &source);
	if (from == NOWHERE || from != flow->current ||
	    place(&flow->near[0].local, flow->local_count, 0, 0, &destination) != flow->own)
		return XDP_PASS;
	home = uplink_of(flow->home);
	if (flow->home && home && home->ifindex != frame->ingress_ifindex)
		return XDP_PASS; /* it is to appear there */
	hear(flow, label);
	restore(ip, flow, slot);
	count(PACKETS_RECEIVED);
	return XDP_PASS;
}
