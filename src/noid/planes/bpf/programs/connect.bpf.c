// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Chooses the source of new connections to M6 peers by the weights of the uplinks.
 *
 * host_connects is attached to the root of the control groups by a link without a pin: it ends with
 * the daemon. It only binds sockets of its own network namespace that have neither a source, nor a
 * device, nor a mark. If the kernel refuses the source, the routes choose as without noid.
 */
#include "kernel.h"

enum { AF_INET6 = 10 };
enum { SOURCE_SLOTS = 128, SPREAD_MAX = 1 << 20 };
enum { CONTINUE = 1 };

struct bpf_sock_addr {
	u32 user_family;
	u32 user_ip4;
	u32 user_ip6[4];
	u32 user_port;
	u32 family;
	u32 type;
	u32 protocol;
	u32 msg_src_ip4;
	u32 msg_src_ip6[4];
	struct bpf_sock *sk;
} __attribute__((aligned(8)));

struct sockaddr_in6 {
	u16 family;
	u16 port;
	u32 flow_label;
	u32 address[4];
	u32 scope;
};

static long (*const bpf_bind)(struct bpf_sock_addr *call, const void *address,
			      int octets) = (void *)64;
static u64 (*const bpf_get_netns_cookie)(void *context) = (void *)122;

struct address {
	u32 words[4];
};

/* Each source as often as its weight says. */
struct sources {
	u32 count;
	struct address slots[SOURCE_SLOTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH); /* replaces its value in one step */
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct sources);
} sources SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SPREAD_MAX);
	__type(key, struct address);
	__type(value, u32);
} spread_peers SEC(".maps");

const volatile u64 network = 0; /* the cookie of the network namespace */

static __always_inline int is_free(const struct bpf_sock *socket)
{
	return !socket->mark && !socket->bound_dev_if && !socket->src_ip6[0] &&
	       !socket->src_ip6[1] && !socket->src_ip6[2] && !socket->src_ip6[3];
}

SEC("cgroup/connect6")
int host_connects(struct bpf_sock_addr *call)
{
	struct bpf_sock *socket = call->sk;
	struct address peer;
	struct sockaddr_in6 source;
	struct sources *all;
	u32 key = 0;
	u64 slot;

	if (!socket || !is_free(socket) || bpf_get_netns_cookie(call) != network)
		return CONTINUE;
	peer.words[0] = call->user_ip6[0];
	peer.words[1] = call->user_ip6[1];
	peer.words[2] = call->user_ip6[2];
	peer.words[3] = call->user_ip6[3];
	if (!bpf_map_lookup_elem(&spread_peers, &peer))
		return CONTINUE;
	all = bpf_map_lookup_elem(&sources, &key);
	if (!all || !all->count)
		return CONTINUE;
	slot = bpf_get_prandom_u32() % all->count;
	slot &= SOURCE_SLOTS - 1; /* for the verifier */
	/* Not an initializer, whose octets would be among the read-only data. */
	__builtin_memset(&source, 0, sizeof(source));
	source.family = AF_INET6;
	__builtin_memcpy(source.address, &all->slots[slot], sizeof(source.address));
	bpf_bind(call, &source, sizeof(source));
	return CONTINUE;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
