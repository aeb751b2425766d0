/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the programs of a border and their daemon share: the tables and the settings.
 *
 * noid.planes.bpf.border_tables has the same layouts for Python, and a test holds the two together
 * by the BTF of the object. Prefixes and masks are as packets carry them, in network order; all
 * else is in the machine's order.
 */
#pragma once
#include "kernel.h"

enum {
	PREFIXES_MAX = 64, /* of a site */
	INSIDE_MAX = 8,	   /* further prefixes that need no uplink */
	NAME_OCTETS = 16,  /* of a provider */
	PROVIDERS_MAX = 16,
	LINK_OCTETS = 6, /* of a link-layer address */
	SIGNS = 3,
};

#define FORMER (1U << 31) /* with a row: the prefix is no longer of the site */

/* A prefix of which nothing leaves the site, besides the site's own. */
struct inside {
	u64 half[2];
	u64 mask[2];
};

/* The settings of this load; constants to the verifier. */
struct border_settings {
	u32 refused_mark;    /* of packets that are answered, not forwarded */
	u8 rewritable_first; /* P1 [D2] */
	u8 inside_count;
	u8 reserved[2];
	struct inside inside[INSIDE_MAX];
};

/* A prefix of the site. */
struct prefix {
	u64 high;    /* its first 64 bits */
	u32 ifindex; /* of its uplink; 0: that is not there */
	u32 since_s; /* for the daemon: when it came to the site; 0: not known */
	u32 gone_s;  /* for the daemon: when it left the site; 0: it did not */
	u8 reserved[4];
};

/* Another border, as the sender of a packet in a LAN. */
struct other {
	u32 ifindex;	       /* of the LAN */
	u8 sender[LINK_OCTETS]; /* its link-layer address */
	u8 reserved[2];
};

enum sender {
	FROM_HOSTS,
	FROM_OTHERS, /* handed over by another border: only uplinks of this router */
	SENDERS,
};

/* Which uplink is in use for which prefix. */
struct uplinks {
	u64 works;	      /* bit n: the uplink of prefix n */
	u8 row[PREFIXES_MAX]; /* the prefix that rewritable packets of prefix n leave with */
};

/* The same for every sender. A switch is one update of one entry. The last two members are for the
 * next daemon.
 */
struct choice {
	u64 mask; /* the length of every prefix */
	struct uplinks uplinks[SENDERS];
	u32 has_others; /* whether there are other borders */
	u8 reserved[4];
	u64 failed[SIGNS];	/* bit n: this sign says that the uplink of prefix n is dead */
	u8 manual[NAME_OCTETS]; /* the provider that the operator chose; empty: none */
};

enum border_count {
	PACKETS_REWRITTEN,
	REFUSED_NO_UPLINK,
	PACKETS_FORWARDED,
	DROPPED_SOURCE_OUTSIDE,
	DROPPED_SOURCE_OF_OTHER_UPLINK,
	DROPPED_SOURCE_OF_SITE,
	BORDER_COUNTS,
};
