/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the programs and the daemon share: the tables, the reports, the settings.
 *
 * noid.planes.bpf.layout has the same layouts for Python, and a test holds the two together by the
 * BTF of the object. Labels, addresses and next headers are as packets carry them, in network
 * order; all else is in the machine's order; times are of the monotonic clock.
 */
#pragma once
#include "kernel.h"

enum {
	LOCATORS_NEAR = 4,    /* of each set, in the inbound entry itself */
	LOCATORS_FAR = 12,    /* the others, up to 16 in all [D5] */
	REPORT_OCTETS = 2048, /* of a packet, in a report */
	REPORTS_OCTETS = 1 << 22, /* twice as many reports as are made of one user in a second */
	SET_UPS_OCTETS = 1 << 22,
	RANKS = 16,	    /* of reports in a second; the last one has all higher ones */
	USERS_MAX = 8192, /* sites whose share of a rate is counted, the least recent one evicted */
	NAMED_MAX = 8192, /* the same of flows, by a locator of their peers */
	SHARES = 8,	  /* a site has at most one part of so many [D46] */
	STRANGERS_MAX = 4096,	   /* peers that are not watched, remembered as reported */
	UPLINKS_MAX = 256,	   /* rows of the table of uplinks; row 0 is no uplink */
	OWN_ROW = UPLINKS_MAX - 1, /* the row of the device of ours that routes lead to */
	ACTIVITIES_MAX = 4096, /* flows with unanswered TCP data, the least recent one evicted */
	SEGMENTS_MAX = 4096,   /* the same of TCP connections */
	SEGMENT_OCTETS = 1536, /* of a packet, in a segment that is kept */
};

struct address {
	u64 half[2];
};

/* The settings of this load; constants to the verifier. */
struct settings {
	u32 mark;	       /* of the daemon's own packets, which pass as they are */
	u32 slow_ifindex;      /* the device behind which the daemon does what is rare */
	u32 segmenter_ifindex; /* the device that cuts super-packets, or 0 */
	u32 own_ifindex;       /* the device that takes packets to M6 peers, and its segments */
	u8 rewritable_first;   /* P1 [D2] */
	u8 fixed_first;	       /* P2 [D2] */
	u8 referrals;	       /* whether unknown peers are of interest [D34] */
	u8 timers;	       /* whether the kernel has timers for programs */
	u8 control_type;       /* the ICMPv6 type of control messages [D1] */
	u8 reserved[3];
};

enum uplink_flags {
	OUT_CUT_TCP = 1,      /* cannot cut super-packets of TCP with an M6 next header */
	OUT_CUT_UDP = 2,      /* nor of UDP */
	OUT_SUM = 4,	      /* nor sum up any packet with an M6 next header */
	UPLINK_ETHERNET = 8,  /* has a link-layer header, of 14 octets */
	UPLINK_SENDS = 16,    /* is up and has a carrier */
	UPLINK_RECEIVES = 32, /* is up, so that packets may appear on it */
};

/* An uplink. Flows name its row, so what happens to it costs one update, however many they are. */
struct uplink {
	u32 ifindex; /* 0: it is not there */
	u32 mtu;     /* octets of IPv6 */
	u8 link[6];  /* its link-layer address */
	u8 flags;
	u8 reserved;
};

/* Transmit: <AID(local), AID(peer)> finds the locators [draft 3.2]. */
struct pair {
	struct address local;
	struct address peer;
};

/* A locator of the peer, and the Ethernet header that leads there from the uplink. */
struct towards {
	struct address locator;
	u32 link[3]; /* the addresses to and from which, 6 octets each */
	u32 reserved;
	u64 until; /* the tick until which they hold; 0: they are not known */
};

/* What each packet needs comes first; entry and key are in as few lines of the cache as may be. */
struct outbound {
	u32 peer_label;		      /* F(peer) */
	u32 local_label;	      /* F(local), the key of the inbound entry */
	u8 uplink;		      /* row of the uplink of Lp(local) */
	u8 next_header_first;	      /* P1 or P2 [D4] */
	u8 chosen;		      /* which of peer */
	u8 unanswered;		      /* packets that want an answer since unanswered_ns, or many */
	u16 tick;		      /* of the kernel, in which silence was last looked for */
	u16 kept;		      /* in which a segment was last kept, with its timer armed */
	struct address local_locator; /* Lp(local) */
	u64 silence_ns;		      /* T [D20] */
	u64 unanswered_ns;	      /* when the first unanswered packet went; 0: none yet */
	struct towards peer[2];	      /* Lp(peer) is the chosen one; a new one is written beside */
	u64 reported_ns;	      /* when unanswered_ns was last reported */
	u64 sent_ns; /* when something was last sent, to one tick, or a keepalive due */
};

/* Receive: F(local) finds the AIDs [draft 7.11]. */
enum inbound_flags {
	IN_HOLDS = 1, /* provisional: what arrives is for the daemon [D37] */
	IN_FAR = 2,   /* some locators are in the table `far` */
};

struct inbound {
	u16 verified;	/* bit n: peer locator n may become Lp(peer) */
	u8 local_count; /* of those near */
	u8 peer_count;
	u8 current; /* which peer locator the peer sends from */
	u8 own;	    /* which local locator is Lp(local) */
	u8 flags;
	u8 answered;			 /* something has come since the sender last looked */
	u64 received_ns;		 /* when something last came, to one tick; 0: never */
	u32 tick;			 /* of the kernel, in which the clock was last asked */
	u32 home;			 /* row of the uplink that AID(local) belongs to */
	struct pair near[LOCATORS_NEAR]; /* Lsl(local) and Lsl(peer), the AIDs first */
	u64 moved_ns;			 /* when another source was last followed or reported */
	u64 heard_ns; /* when data from there or a keepalive last came, to one tick; 0: never */
	u32 gap_ns;   /* the mean time between these; 0: not known */
	u8 owes;      /* data has come since something was sent [D42] */
	u8 more;      /* packets heard in the tick of heard_ns after that one, or as many as fit */
	u16 proven; /* when something authentic last came, or was missed [D41] */
	u64 follow_ns; /* before this, data does not move Lp(peer) [D41] */
};

struct far {
	struct address local[LOCATORS_FAR];
	struct address peer[LOCATORS_FAR];
	u8 local_count;
	u8 peer_count;
	u8 reserved[6];
};

/* A packet whose route and neighbour the kernel looks up, under our mark, so that neither our rules
 * nor those for its own mark apply. When it comes by again on its uplink it has its mark back, and
 * shows the Ethernet header that leads there.
 */
struct scout {
	struct pair aids;      /* of its flow */
	struct pair addresses; /* as it is sent */
	u32 is_out;
	u32 mark;
};

/* A peer the shim knows of and has no context with. */
struct watched {
	u64 reported_ns;
};

enum count {
	PACKETS_SENT,
	PACKETS_SENT_PLAINLY,
	PACKETS_RECEIVED,
	PACKETS_RECEIVED_ELSEWHERE,
	REFUSED_DESTINATION,
	REFUSED_SOURCE,
	REFUSED_RESERVED_SLOT,
	REFUSED_UNKNOWN_LABEL,
	PACKETS_TO_SLOW_PATH,
	PACKETS_CUT,
	REPORTS_LOST,
	PACKETS_OF_OTHER_VLAN,
	PACKETS_WITHOUT_UPLINK,
	PACKETS_DELIVERED_AT_HOME,
	REFUSED_MALFORMED,
	REFUSED_SOURCE_OF_NO_HOST,
	REFUSED_CONTROL_AS_DATA,
	REFUSED_OVER_SHARE,
	SUPERS_NOT_ARRIVED,
	COUNTS,
};

enum report_kind {
	UNKNOWN_LABEL_SEEN = 0, /* a packet for the slow path */
	PLAIN_PACKET = 1,	/* towards a watched AID, without a flow */
	UNANSWERED_PACKET = 2,	/* sent and nothing heard [D20] */
	SOURCE_MOVED = 3,	/* the peer sends from another locator [D21] */
	UNKNOWN_PEER = 4,	/* to an AID that is not watched [D34] */
	ONE_WAY_DATA = 5,	/* received, and nothing was sent: a keepalive is due [D42] */
	CONTROL_SEEN = 6,	/* a packet for the slow path: control in a slot */
	OPTION_SEEN = 7,	/* the same: M6 behind hop-by-hop options */
	LONG_UNPROVEN = 8,	/* sent, and nothing authentic heard for long [D41] */
	MESSAGE_SEEN = 9,	/* received, control in a slot that names a flow [D46] */
	TAKEN_AS_NAMED = 10,	/* plain control for a socket: that names a flow */
	TAKEN_AS_OTHER = 11,	/* the same, which the other socket does not take */
	LONG_REPEATED = 12,	/* sent again and again, and longer than any path carries */
	ESCAPE_SEEN = 13,	/* a packet for the slow path: of a flow, which the daemon restores */
};

struct report {
	u32 kind;
	u32 local_label;
	u64 silent_ns;
	struct address source; /* SOURCE_MOVED: from where; UNKNOWN_PEER: to whom */
	u8 followed;	       /* SOURCE_MOVED: whether Lp(peer) is there already */
	u8 reserved[3];
	u32 segment_octets; /* of a super-packet: what each segment carries; else 0 */
	u32 octets;	    /* of the packet that follow */
	u32 user;	    /* whose program sent the packet, or to the peer */
	u8 packet[REPORT_OCTETS];
};

/* A segment of a flow that is longer than LONG_OCTETS: its ports and sequence number, as in its
 * header, and how often it was sent while the peer was heard.
 */
struct long_segment {
	u32 ports;
	u32 sequence;
	u64 sent_ns;
	u64 times;
};

/* The super-packet of a flow that is watched: ports (0: none) and sequence number, as in its header,
 * and what is known of the pair of locators that the last one had.
 */
struct super_packet {
	u32 ports;
	u32 sequence;
	u64 sent_ns;
	struct pair locators;
	u64 cut_until_ns; /* super-packets are cut until then; 0: none was lost */
	u32 losses;	  /* of those that were watched, since one arrived */
	u32 cuts;	  /* times that it was found to be necessary */
};

/* The last TCP segment of a flow that wants an answer, as it is reported when none comes, and the
 * timer that notices that.
 */
struct activity {
	struct bpf_timer timer;
	struct pair aids;
	u64 kept_ns;
	u16 is_armed;
	u16 is_patient; /* armed to wait as long as for few packets */
	u32 version;	/* odd while the report is written */
	u32 writers;	/* one at a time; another gives up */
	u32 tick;	/* of the kernel, in which the report was last written */
	struct report report;
};

/* A TCP connection of a flow. */
struct connection {
	u32 local_label;
	u32 ports; /* as its segments have them */
};

/* The last segment of a connection that wants an answer: other connections of the flow may go on
 * while this one waits.
 */
struct segment {
	u64 kept_ns;
	u32 tick;	    /* of the kernel, in which it was kept */
	u32 version;	    /* odd while it is written */
	u32 segment_octets; /* of a super-packet: what each segment carries; else 0 */
	u32 octets;	    /* of the packet that follow */
	u8 packet[SEGMENT_OCTETS];
};

/* The connection whose segment a processor has kept last. */
struct recent {
	struct connection connection;
	u64 tick;
};

/* A site, a flow or a local user, and a kind of what it may have the daemon do [D46]. */
struct user {
	u64 who; /* the first 48 bits of an address; the label of a flow and the place of a locator;
		  * a uid
		  */
	u64 kind;
};

/* What a control message says from its sender's AID on: a flow of the receiver's [D5]. */
struct naming {
	struct address sender;
	struct address receiver;
	u16 option;
	u16 octets;
	u32 sender_label;
	u32 receiver_label;
};

/* How many reports of a kind went in the second at hand. */
struct window {
	u64 second;
	u64 used;
};

/* The reports of a kind that users share, by rank: of those of one user in a second, the first has
 * rank 0, two more have rank 1, four more rank 2, and so on.
 */
struct ranking {
	u64 second;
	u64 made_in_all;
	u32 made[RANKS];
	u32 wanted[RANKS]; /* made and refused */
	u32 before[RANKS]; /* wanted in the second before */
};
