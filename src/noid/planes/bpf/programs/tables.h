/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the programs share with the daemon: its settings, the tables it fills, the counters and
 * reports it reads.
 */
#pragma once
#include "parse.h"

#define SECOND 1000000000ULL
#define KEEPALIVE_INTERVAL (SECOND / 25) /* of a peer that owes some [D42] */
#define TICK_USUAL (SECOND / 250) /* the time between two looks at the clock */
#define REPORTS_PER_SECOND 1000 /* of each kind */
#define NONE_COUNTED (~0ULL)
#define REPORT_HEAD_OCTETS __builtin_offsetof(struct report, packet)

const volatile struct settings settings SEC(".rodata");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024); /* the daemon says how many */
	__type(key, struct pair);
	__type(value, struct outbound);
} outbound SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, u32); /* F(local) */
	__type(value, struct inbound);
} inbound SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, struct far);
} far SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct address);
	__type(value, struct watched);
} watched SEC(".maps");

/* The addresses of this host, and the rows of their uplinks; what is for another address is on its
 * way there.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct address);
	__type(value, u32);
} ours SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, UPLINKS_MAX);
	__type(key, u32);
	__type(value, struct uplink);
} uplinks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, ACTIVITIES_MAX);
	__type(key, u32); /* F(local) */
	__type(value, struct activity);
} activities SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SEGMENTS_MAX);
	__type(key, struct connection);
	__type(value, struct segment);
} segments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct recent);
} recents SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, ACTIVITIES_MAX);
	__type(key, u32); /* F(local) */
	__type(value, struct long_segment);
} long_segments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, ACTIVITIES_MAX);
	__type(key, u32); /* F(local) */
	__type(value, struct super_packet);
} super_packets SEC(".maps");

/* Until when the super-packets of any flow are cut; after that, no packet looks for its flow's. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} last_cut SEC(".maps");

/* What a new activity or segment is copied from: octets that are 0, too many for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct { u8 octets[sizeof(struct activity)]; });
} blanks SEC(".maps");

/* When a peer that is not watched was last reported; the least recently seen is evicted first. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, STRANGERS_MAX);
	__type(key, struct address);
	__type(value, struct watched);
} strangers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct scout);
} scouts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTS);
	__type(key, u32);
	__type(value, u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ESCAPE_SEEN + 1);
	__type(key, u32);
	__type(value, struct window);
} windows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ESCAPE_SEEN + 1);
	__type(key, u32);
	__type(value, struct ranking);
} rankings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, REPORTS_OCTETS);
} reports SEC(".maps");

/* The same of what leads to a set-up: strangers and peers without a flow. What contexts report does
 * not wait behind it [D46].
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, SET_UPS_OCTETS);
} set_ups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, USERS_MAX);
	__type(key, struct user);
	__type(value, struct window);
} users SEC(".maps");

static __always_inline void count(u32 what)
{
	u64 *counter = bpf_map_lookup_elem(&counts, &what);

	if (counter)
		*counter += 1;
}

static __always_inline int drop(u32 why)
{
	count(why);
	return TCX_DROP;
}

/* Counts one more in a window; how many there are in this second. */
static __always_inline u64 use_window(struct window *window, u64 now)
{
	u64 second = now / SECOND;

	if (window->second < second) {
		window->second = second;
		window->used = 0;
	}
	window->used += 1;
	return window->used;
}

/* Whether one more of a kind may be reported in this second. */
static __always_inline int may_report(u32 kind, u64 now, u64 limit)
{
	struct window *window = bpf_map_lookup_elem(&windows, &kind);

	return window && use_window(window, now) <= limit;
}

/* Counts one more of a kind of a user; how many there are in this second. */
static __always_inline u64 use_of(u64 who, u64 kind, u64 now)
{
	struct user user = {.who = who, .kind = kind};
	struct window first = {0}, *window = bpf_map_lookup_elem(&users, &user);

	if (!window) {
		bpf_map_update_elem(&users, &user, &first, 0);
		window = bpf_map_lookup_elem(&users, &user);
	}
	return window ? use_window(window, now) : NONE_COUNTED;
}

/* Whether one more may be done for a user in this second. */
static __attribute__((noinline)) int may_use(u64 who, u64 kind, u64 share)
{
	return use_of(who, kind, bpf_ktime_get_ns()) <= share;
}

/* The logarithm of a number from 1 on, to the base of 2. */
static __always_inline u32 rank_of(u64 number)
{
	u32 rank = 0;

	if (number >> RANKS)
		return RANKS - 1;
	for (u32 step = RANKS / 2; step; step /= 2) {
		if (number >> step) {
			number >>= step;
			rank += step;
		}
	}
	return rank & (RANKS - 1);
}

/* Begins another second. */
static __always_inline void turn_to(struct ranking *all, u64 second)
{
	if (all->second + 1 == second)
		__builtin_memcpy(all->before, all->wanted, sizeof(all->before));
	else
		__builtin_memset(all->before, 0, sizeof(all->before));
	__builtin_memset(all->wanted, 0, sizeof(all->wanted));
	__builtin_memset(all->made, 0, sizeof(all->made));
	all->made_in_all = 0;
	all->second = second;
}

/* The site of an address, as a number. */
static __always_inline u64 site_of(const struct address *source)
{
	u64 site = 0;

	__builtin_memcpy(&site, source, 6);
	return site;
}

/* Whether one more of a kind may be reported of a local user, or of the site of a peer, in this
 * second.
 *
 * The shares are max-min fair: a report waits behind no report of a higher rank, and what the lower
 * ranks need, as far as this second and the one before show, is kept for them. So a user has all
 * while no other reports. A user that begins to report in the middle of a second has a share of that
 * second at once, too. It is the smaller, the more were made, so that twice the limit has room for
 * many such users.
 *
 * It is not static: the verifier then follows its loop once per program, not on each path to it.
 */
__attribute__((noinline)) int may_report_of(u64 who, u32 kind, u64 limit)
{
	struct ranking *all = bpf_map_lookup_elem(&rankings, &kind);
	u64 now = bpf_ktime_get_ns(), lower = 0;
	u32 rank = rank_of(use_of(who, kind, now));

	if (!all)
		return 0;
	if (all->second < now / SECOND) /* another processor may have turned to a later one */
		turn_to(all, now / SECOND);
	for (u32 one = 0; one < RANKS; one++) {
		if (one < rank)
			lower += all->wanted[one] > all->before[one] ? all->wanted[one]
								      : all->before[one];
	}
	all->wanted[rank] += 1;
	lower += all->made[rank];
	if (lower >= limit || lower + all->made_in_all >= 2 * limit)
		return 0;
	all->made[rank] += 1;
	all->made_in_all += 1;
	return 1;
}

/* Whether one more of a kind may be done for a source in this second: an eighth is for one site. */
static __attribute__((noinline)) int may_do(u32 kind, const struct address *source, u64 limit)
{
	if (!source)
		return 0;
	return may_use(site_of(source), kind, limit / SHARES) &&
	       may_report(kind, bpf_ktime_get_ns(), limit);
}

/* The same, but above half of a limit events are refused at random, the more the fuller it is: a
 * host that sees whether one event is permitted learns little of the others.
 */
static __attribute__((noinline)) int may_do_by_chance(u32 kind, const struct address *source,
						       u64 limit)
{
	u64 left = bpf_get_prandom_u32() % (limit / 2 + 1);

	if (!source)
		return 0;
	return may_use(site_of(source), kind, (limit - left) / SHARES) &&
	       may_report(kind, bpf_ktime_get_ns(), limit - left);
}

/* Copies as much of a packet as there is room for; returns the octets, or 0 if it is none. */
static __always_inline u32 copy_packet(struct __sk_buff *packet, u32 at, u8 *copy, u32 room)
{
	u32 octets = packet->len - at;

	if (octets > room)
		octets = room;
	if (octets < IPV6_OCTETS || octets > room || bpf_skb_load_bytes(packet, at, copy, octets))
		return 0;
	return octets;
}

/* Writes a report with as much of the packet as it holds. */
static __always_inline void fill_report(struct report *report, struct __sk_buff *packet, u32 kind,
					u32 label, u32 at)
{
	report->kind = kind;
	report->local_label = label;
	report->silent_ns = 0;
	report->followed = 0;
	report->segment_octets = super_octets(packet);
	report->octets = copy_packet(packet, at, report->packet, REPORT_OCTETS);
}

/* A report with a packet of a local program; null where there is no room or too many went. */
static __always_inline struct report *begin_report(struct __sk_buff *packet, u32 kind, u32 label,
						   u32 at)
{
	u32 user = bpf_get_socket_uid(packet);
	struct report *report;

	if (!may_report_of(user, kind, REPORTS_PER_SECOND))
		return 0;
	if (kind == PLAIN_PACKET)
		report = bpf_ringbuf_reserve(&set_ups, sizeof(*report), 0);
	else
		report = bpf_ringbuf_reserve(&reports, sizeof(*report), 0);
	if (!report) {
		count(REPORTS_LOST);
		return 0;
	}
	fill_report(report, packet, kind, label, at);
	report->user = user;
	return report;
}

/* A time in units of 1.07 s, which fits an entry. */
static __always_inline u16 rough_time(u64 now)
{
	return now >> 30;
}

/* Reports something of a flow, without a packet; the site of its peer has a share [D46]. */
static __always_inline void notify(u32 kind, u32 label, const struct address *peer)
{
	struct report *report;

	if (!may_report_of(site_of(peer), kind, REPORTS_PER_SECOND))
		return;
	report = bpf_ringbuf_reserve(&reports, REPORT_HEAD_OCTETS, 0);
	if (!report) {
		count(REPORTS_LOST);
		return;
	}
	__builtin_memset(report, 0, REPORT_HEAD_OCTETS);
	report->kind = kind;
	report->local_label = label;
	bpf_ringbuf_submit(report, 0);
}

static __always_inline struct uplink *uplink_of(u32 row)
{
	return bpf_map_lookup_elem(&uplinks, &row);
}

static __always_inline int is_own(struct address address)
{
	return bpf_map_lookup_elem(&ours, &address) != 0;
}

/* The uplink that an address of this host belongs to; null if it is another's or has none. */
static __always_inline struct uplink *uplink_having(struct address address)
{
	u32 *row = bpf_map_lookup_elem(&ours, &address);

	return row && *row ? uplink_of(*row) : 0;
}

/* To the daemon, as it is. */
static __always_inline int to_slow_path(void)
{
	count(PACKETS_TO_SLOW_PATH);
	return bpf_redirect(settings.slow_ifindex, 0);
}

static __always_inline int is_m6(u8 next_header)
{
	return (u8)(next_header - settings.rewritable_first) < SLOTS ||
	       (u8)(next_header - settings.fixed_first) < SLOTS;
}
