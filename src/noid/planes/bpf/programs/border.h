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
};

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
	u32 reserved;
};

/* Which uplink is in use for which prefix. A switch is one update of the one entry. */
struct choice {
	u64 mask;		/* the length of every prefix */
	u64 works;		/* bit n: the uplink of prefix n */
	u8 row[PREFIXES_MAX];	/* the prefix that rewritable packets of prefix n leave with */
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
