/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Where things are in a packet. */
#pragma once
#include "shim.h"

enum {
	IPV6_OCTETS = 40,
	HOP_BY_HOP = 0,
	TCP = 6,
	UDP = 17,
	FRAGMENT = 44,
	ESP = 50,
	ICMPV6 = 58,
	SCTP = 132,
};
enum { ROUTER_SOLICITATION = 133, LINK_REDIRECT = 137 }; /* all of neighbour discovery */
enum { SLOT_RESERVED = 3, SLOT_ICMPV6 = 6, SLOT_ESCAPE = 7, SLOTS = 8, NO_SLOT = 0xff };

struct ipv6 {
	u32 first; /* version, traffic class, flow label */
	u16 payload_octets;
	u8 next_header;
	u8 hop_limit;
	struct address source;
	struct address destination;
};

#define VLAN_NUMBER 0xfff
#define LABEL_MASK bpf_htonl(0xfffff)
#define VERSION_MASK bpf_htonl(0xf0000000)
#define VERSION_6 bpf_htonl(0x60000000)

/* The header `at` octets into the packet, which may be read and written; null: there is none. */
static __always_inline struct ipv6 *header(struct __sk_buff *packet, u32 at)
{
	struct ipv6 *ip = (void *)(long)packet->data + at;

	if ((void *)(ip + 1) > (void *)(long)packet->data_end) {
		if (bpf_skb_pull_data(packet, at + IPV6_OCTETS))
			return 0;
		ip = (void *)(long)packet->data + at;
		if ((void *)(ip + 1) > (void *)(long)packet->data_end)
			return 0;
	}
	return ip;
}

/* Gives a packet from a device without a link-layer header an Ethernet header, yet to be filled in;
 * returns 0 if it has one now.
 */
static __always_inline long add_link_header(struct __sk_buff *packet)
{
	u16 ethertype = bpf_htons(ETH_P_IPV6);
	long failed = bpf_skb_change_head(packet, ETH_HLEN, 0);

	return failed ? failed : bpf_skb_store_bytes(packet, 12, &ethertype, sizeof(ethertype), 0);
}

/* Whether a packet is for the device of a VLAN. A tag without a number says a priority alone: the
 * kernel gives such a packet to the device that it came by.
 */
static __always_inline int is_of_a_vlan(const struct __sk_buff *packet)
{
	return packet->vlan_present && packet->vlan_tci & VLAN_NUMBER;
}

/* What each segment of a super-packet will carry; 0 for any other packet. */
static __always_inline u32 super_octets(const struct __sk_buff *packet)
{
	u32 octets;

	/* The verifier wants the offset in the instruction; a compiler may add it up beforehand. */
	asm volatile("%0 = *(u32 *)(%1 + %2)"
		     : "=r"(octets)
		     : "r"(packet), "i"(__builtin_offsetof(struct __sk_buff, gso_size)));
	return octets;
}

/* An octet of what follows the IPv6 header of a packet; -1 if the packet ends before it. */
static __always_inline int octet_behind(struct __sk_buff *packet, u32 at, u32 place)
{
	u8 octet;

	return bpf_skb_load_bytes(packet, at + IPV6_OCTETS + place, &octet, 1) ? -1 : octet;
}

/* Whether a packet of so many octets ends before its header says. */
static __always_inline int is_cut_short(const struct ipv6 *ip, u32 octets)
{
	return octets < IPV6_OCTETS + (u32)bpf_htons(ip->payload_octets);
}

/* Whether a host may have an address, and be answered there: none that is multicast, link-local,
 * in ::/96 (unspecified, loopback) or IPv4-mapped.
 */
static __always_inline int is_of_a_host(const struct address *address)
{
	const u8 *octet = (const u8 *)address;
	const u32 *word = (const u32 *)address;

	if (octet[0] == 0xff || (octet[0] == 0xfe && (octet[1] & 0xc0) == 0x80))
		return 0;
	if (address->half[0])
		return 1;
	return word[2] && word[2] != bpf_htonl(0xffff);
}

/* The slot of a protocol that has one [D2]. */
static __always_inline u8 slot_of(u8 protocol)
{
	switch (protocol) {
	case TCP:
		return 0;
	case UDP:
		return 1;
	case SCTP:
		return 2;
	case ESP:
		return 4;
	case FRAGMENT:
		return 5;
	case ICMPV6:
		return SLOT_ICMPV6;
	}
	return NO_SLOT;
}

/* The protocol of a slot; only for those that slot_of() gives. */
static __always_inline u8 protocol_of(u8 slot)
{
	switch (slot) {
	case 0:
		return TCP;
	case 1:
		return UDP;
	case 2:
		return SCTP;
	case 4:
		return ESP;
	case 5:
		return FRAGMENT;
	}
	return ICMPV6;
}

static __always_inline int same(const struct address *one, const struct address *other)
{
	return one->half[0] == other->half[0] && one->half[1] == other->half[1];
}
