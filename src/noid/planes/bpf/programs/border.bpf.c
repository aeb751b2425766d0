// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* The border of a site in the kernel, by the law of noid.flows.border.
 *
 * border_leaving is attached to the ingress of every LAN, where a packet has no route yet: what it
 * does depends on nothing of an uplink that does not work, and the kernel's own forwarding does the
 * rest. border_departing and border_arriving are the filters of the uplinks [draft 11]. There is
 * one entry for each prefix of the site, and none for a host or a flow.
 */
#include "border.h"
#include "parse.h"

enum { BUCKETS_EACH = 16 };

const volatile struct border_settings settings SEC(".rodata");

/* The rows of prefixes, by the first 64 bits of an address under the mask of the site; FORMER is
 * set in those of prefixes that providers have replaced, and hosts may still use. With so many
 * buckets, one that an address selects rarely has the prefix of another: the cost of a packet does
 * not depend on their number.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PREFIXES_MAX * BUCKETS_EACH);
	__type(key, u64);
	__type(value, u32);
} rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PREFIXES_MAX);
	__type(key, u32);
	__type(value, struct prefix);
} prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct choice);
} in_use SEC(".maps");

/* The other borders of the LANs; empty where this router has every uplink. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PROVIDERS_MAX);
	__type(key, struct other);
	__type(value, u8);
} others SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BORDER_COUNTS);
	__type(key, u32);
	__type(value, u64);
} border_counts SEC(".maps");

char LICENSE[] SEC("license") = "Dual MIT/GPL";

static __always_inline void count(u32 what)
{
	u64 *counter = bpf_map_lookup_elem(&border_counts, &what);

	if (counter)
		*counter += 1;
}

static __always_inline int drop(u32 why)
{
	count(why);
	return TCX_DROP;
}

static __always_inline const struct choice *choice_now(void)
{
	u32 only = 0;

	return bpf_map_lookup_elem(&in_use, &only);
}

/* The uplinks for a packet from a LAN. One that another border has handed over leaves by an uplink
 * of this router: else two borders would pass it to each other. */
static __always_inline const struct uplinks *uplinks_for(struct __sk_buff *packet, u32 at,
							 const struct choice *choice)
{
	struct other key = {.ifindex = packet->ifindex};

	if (at == ETH_HLEN && choice->has_others &&
	    !bpf_skb_load_bytes(packet, LINK_OCTETS, key.sender, LINK_OCTETS) &&
	    bpf_map_lookup_elem(&others, &key))
		return &choice->uplinks[FROM_OTHERS];
	return &choice->uplinks[FROM_HOSTS];
}

/* The row of the prefix that an address is in; null: it is in none. */
static __always_inline const u32 *row_of_source(const struct choice *choice, u64 high)
{
	u64 key = high & choice->mask;

	return bpf_map_lookup_elem(&rows, &key);
}

/* The same; null also for a former prefix, which is not of the site. */
static __always_inline const u32 *row_of(const struct choice *choice, u64 high)
{
	const u32 *row = row_of_source(choice, high);

	return row && !(*row & FORMER) ? row : 0;
}

/* The header of a packet that is the device's own, and not of a VLAN on it; null: leave it alone.
 */
static __always_inline struct ipv6 *header_of_own(struct __sk_buff *packet, u32 at)
{
	struct ipv6 *ip;

	if (is_of_a_vlan(packet) || packet->protocol != bpf_htons(ETH_P_IPV6))
		return 0;
	ip = header(packet, at);
	return ip && (ip->first & VERSION_MASK) == VERSION_6 ? ip : 0;
}

static __always_inline int is_link_local(const struct address *address)
{
	const u8 *octet = (const u8 *)address;

	return octet[0] == 0xfe && (octet[1] & 0xc0) == 0x80;
}

/* Whether a destination needs no uplink: it is on the link, in the site or called inside. */
static __always_inline int stays_inside(const struct choice *choice, const struct address *to)
{
	u32 one;

	if (*(const u8 *)to == 0xff || is_link_local(to) || row_of(choice, to->half[0]))
		return 1;
	for (one = 0; one < INSIDE_MAX; one++) {
		const volatile struct inside *inside = &settings.inside[one];

		if (one >= settings.inside_count)
			break;
		if ((to->half[0] & inside->mask[0]) == inside->half[0] &&
		    (to->half[1] & inside->mask[1]) == inside->half[1])
			return 1;
	}
	return 0;
}

/* Whether a packet says "rewrite ok": in the IPv6 header, or in hop-by-hop options behind it. */
static __always_inline int is_rewritable(struct __sk_buff *packet, u32 at, u8 next_header)
{
	int next = next_header == HOP_BY_HOP ? octet_behind(packet, at, 0) : next_header;

	return next >= 0 && (u8)(next - settings.rewritable_first) < SLOTS;
}

/* Puts another prefix into the source; no checksum covers it, but the sum of a device does. */
static __always_inline void rewrite(struct __sk_buff *packet, struct ipv6 *ip, u64 mask, u64 prefix)
{
	u64 before = ip->source.half[0], after = (before & ~mask) | prefix;

	ip->source.half[0] = after;
	if (bpf_csum_update(packet, 0) != NOT_SUMMED) {
		long difference = bpf_csum_diff(&before, sizeof(before), &after, sizeof(after), 0);

		if (difference >= 0)
			bpf_csum_update(packet, difference);
	}
}

/* A packet from inside that its uplink cannot carry: a rule of the host answers it by its mark. */
static __always_inline int refuse(struct __sk_buff *packet)
{
	count(REFUSED_NO_UPLINK);
	packet->mark = settings.refused_mark;
	return TCX_NEXT;
}

static __always_inline int leaving(struct __sk_buff *packet, u32 at)
{
	struct ipv6 *ip = header_of_own(packet, at);
	const struct choice *choice = choice_now();
	const struct uplinks *uplinks;
	const struct prefix *prefix;
	const u32 *found;
	u32 row, to;

	if (!ip || !choice || packet->pkt_type != PACKET_HOST)
		return TCX_NEXT;
	found = row_of_source(choice, ip->source.half[0]);
	if (!found || stays_inside(choice, &ip->destination))
		return TCX_NEXT;
	if ((*found & FORMER) && row_of_source(choice, ip->destination.half[0]))
		return TCX_NEXT; /* such as an answer to our neighbour discovery */
	row = *found & ~FORMER;
	if (row >= PREFIXES_MAX)
		return TCX_NEXT;
	uplinks = uplinks_for(packet, at, choice);
	if (!is_rewritable(packet, at, ip->next_header)) {
		if (uplinks->works >> row & 1)
			return TCX_NEXT;
		return refuse(packet);
	}
	to = uplinks->row[row];
	if (to == row)
		return TCX_NEXT;
	prefix = bpf_map_lookup_elem(&prefixes, &to);
	if (!prefix || !prefix->ifindex)
		return refuse(packet);
	rewrite(packet, ip, choice->mask, prefix->high);
	count(PACKETS_REWRITTEN);
	return TCX_NEXT;
}

static __always_inline int departing(struct __sk_buff *packet, u32 at)
{
	const struct choice *choice = choice_now();
	const struct prefix *prefix;
	const u32 *row;
	struct ipv6 *ip;

	if (!packet->ingress_ifindex) /* the router's own */
		return TCX_NEXT;
	ip = header_of_own(packet, at);
	if (!ip || !choice)
		return TCX_NEXT;
	row = row_of(choice, ip->source.half[0]);
	if (!row)
		return drop(DROPPED_SOURCE_OUTSIDE);
	prefix = bpf_map_lookup_elem(&prefixes, row);
	if (!prefix || prefix->ifindex != packet->ifindex)
		return drop(DROPPED_SOURCE_OF_OTHER_UPLINK);
	count(PACKETS_FORWARDED);
	return TCX_NEXT;
}

/* Whether a frame has a priority tag within a priority tag. The kernel removes both, and shows us
 * the frame before it removes the second.
 */
static __always_inline int has_two_priority_tags(struct __sk_buff *packet, u32 at)
{
	u16 tag;

	if (at != ETH_HLEN || !packet->vlan_present || is_of_a_vlan(packet) ||
	    (packet->protocol != bpf_htons(ETH_P_8021Q) &&
	     packet->protocol != bpf_htons(ETH_P_8021AD)))
		return 0;
	return !bpf_skb_load_bytes(packet, at, &tag, sizeof(tag)) &&
	       !(tag & bpf_htons(VLAN_NUMBER));
}

static __always_inline int arriving(struct __sk_buff *packet, u32 at)
{
	const struct choice *choice = choice_now();
	struct ipv6 *ip;

	if (has_two_priority_tags(packet, at))
		return drop(DROPPED_SOURCE_OF_SITE); /* it may be one */
	ip = header_of_own(packet, at);
	if (!ip || !choice)
		return TCX_NEXT;
	if (row_of(choice, ip->source.half[0]))
		return drop(DROPPED_SOURCE_OF_SITE);
	return TCX_NEXT;
}

SEC("tc")
int border_leaving(struct __sk_buff *packet)
{
	return leaving(packet, ETH_HLEN);
}

SEC("tc")
int border_leaving_bare(struct __sk_buff *packet)
{
	return leaving(packet, 0);
}

SEC("tc")
int border_departing(struct __sk_buff *packet)
{
	return departing(packet, ETH_HLEN);
}

SEC("tc")
int border_departing_bare(struct __sk_buff *packet)
{
	return departing(packet, 0);
}

SEC("tc")
int border_arriving(struct __sk_buff *packet)
{
	return arriving(packet, ETH_HLEN);
}

SEC("tc")
int border_arriving_bare(struct __sk_buff *packet)
{
	return arriving(packet, 0);
}
