/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The little that the programs take from the kernel's UAPI (linux/bpf.h, linux/pkt_cls.h), written
 * out so that the object builds on a machine without kernel headers. Numbers and layouts are ABI.
 */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline))

/* What stands before it is written before what stands behind it, as far as the compiler goes. */
static __always_inline void barrier(void)
{
	asm volatile("" ::: "memory");
}

/* A map's definition is a struct whose members libbpf reads out of the BTF. */
#define __uint(name, value) int (*name)[value]
#define __type(name, type) type *name

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27
};
enum { BPF_F_NO_PREALLOC = 1 };
enum { BPF_NOEXIST = 1 };
enum { BPF_F_INGRESS = 1 };
enum { BPF_F_CURRENT_NETNS = -1 };
enum { BPF_HDR_START_NET = 1 };
enum { CLOCK_MONOTONIC = 1 };
/* Not 0, which would hide packets from later programs on the hook (TCX_NEXT). */
enum { TCX_NEXT = -1, TCX_DROP = 2 };
enum { XDP_PASS = 2 };
enum { PACKET_HOST = 0, PACKET_OTHERHOST = 3 }; /* a pkt_type */
#define NOT_SUMMED (-524)			/* bpf_csum_update(): the device did not sum up */
enum { ETH_P_8021Q = 0x8100, ETH_P_8021AD = 0x88a8, ETH_P_IPV6 = 0x86dd, ETH_HLEN = 14 };

struct __sk_buff {
	u32 len;
	u32 pkt_type;
	u32 mark;
	u32 queue_mapping;
	u32 protocol;
	u32 vlan_present;
	u32 vlan_tci;
	u32 vlan_proto;
	u32 priority;
	u32 ingress_ifindex;
	u32 ifindex;
	u32 tc_index;
	u32 cb[5];
	u32 hash;
	u32 tc_classid;
	u32 data;
	u32 data_end;
	u32 napi_id;
	u32 family;
	u32 remote_ip4;
	u32 local_ip4;
	u32 remote_ip6[4];
	u32 local_ip6[4];
	u32 remote_port;
	u32 local_port;
	u32 data_meta;
	u64 flow_keys;
	u64 tstamp;
	u32 wire_len;
	u32 gso_segs;
	u64 sk;
	u32 gso_size;
};

struct bpf_sock {
	u32 bound_dev_if;
	u32 family;
	u32 type;
	u32 protocol;
	u32 mark;
	u32 priority;
	u32 src_ip4;
	u32 src_ip6[4];
};

struct bpf_sock_tuple {
	u32 saddr[4];
	u32 daddr[4];
	u16 sport;
	u16 dport;
};

struct bpf_tcp_sock {
	u32 snd_cwnd;
	u32 srtt_us;
	u32 rtt_min;
	u32 snd_ssthresh;
	u32 rcv_nxt;
	u32 snd_nxt;
	u32 snd_una;
};

struct xdp_md {
	u32 data;
	u32 data_end;
	u32 data_meta;
	u32 ingress_ifindex;
};

struct bpf_timer {
	u64 opaque[2];
} __attribute__((aligned(8)));

static long (*const bpf_skb_vlan_pop)(struct __sk_buff *packet) = (void *)19;
static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value,
					 u64 flags) = (void *)2;
static u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static u32 (*const bpf_get_prandom_u32)(void) = (void *)7;
static long (*const bpf_redirect)(u32 ifindex, u64 flags) = (void *)23;
static long (*const bpf_skb_store_bytes)(struct __sk_buff *packet, u32 at, const void *from,
					 u32 octets, u64 flags) = (void *)9;
static long (*const bpf_skb_load_bytes)(const void *packet, u32 at, void *to,
					u32 octets) = (void *)26;
static long (*const bpf_csum_diff)(const void *from, u32 from_octets, const void *to, u32 to_octets,
				   u32 seed) = (void *)28;
static long (*const bpf_skb_load_bytes_relative)(const void *packet, u32 at, void *to, u32 octets,
						 u32 from) = (void *)68;
static long (*const bpf_skb_pull_data)(struct __sk_buff *packet, u32 octets) = (void *)39;
static long (*const bpf_csum_update)(struct __sk_buff *packet, u32 sum) = (void *)40;
static u32 (*const bpf_get_socket_uid)(struct __sk_buff *packet) = (void *)47;
static struct bpf_sock *(*const bpf_sk_lookup_tcp)(void *packet, struct bpf_sock_tuple *ends,
						  u32 octets, u64 netns, u64 flags) = (void *)84;
static long (*const bpf_sk_release)(void *socket) = (void *)86;
static struct bpf_sock *(*const bpf_sk_fullsock)(u64 socket) = (void *)95;
static struct bpf_tcp_sock *(*const bpf_tcp_sock)(void *socket) = (void *)96;
static long (*const bpf_skb_change_head)(struct __sk_buff *packet, u32 octets,
					 u64 flags) = (void *)43;
static long (*const bpf_timer_init)(struct bpf_timer *timer, void *map, u64 flags) = (void *)169;
static long (*const bpf_timer_set_callback)(struct bpf_timer *timer, void *callback) = (void *)170;
static long (*const bpf_timer_start)(struct bpf_timer *timer, u64 ns, u64 flags) = (void *)171;
static long (*const bpf_ringbuf_output)(void *ring, void *from, u64 octets,
					u64 flags) = (void *)130;
static void *(*const bpf_ringbuf_reserve)(void *ring, u64 octets, u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *record, u64 flags) = (void *)132;
static void (*const bpf_ringbuf_discard)(void *record, u64 flags) = (void *)133;
static u64 (*const bpf_jiffies64)(void) = (void *)118;
static long (*const bpf_redirect_neigh)(u32 ifindex, const void *next_hop, int octets,
					u64 flags) = (void *)152;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define bpf_htons(value) __builtin_bswap16(value)
#define bpf_htonl(value) __builtin_bswap32(value)
#else
#define bpf_htons(value) (value)
#define bpf_htonl(value) (value)
#endif
