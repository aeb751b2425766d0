/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Notices that what a flow sends stays without an answer [D20].
 *
 * Each packet that leaves is a chance to look. TCP with a full window sends none before its own
 * timer expires, 200 ms or more; so a timer of the kernel looks as well, and the last segment is
 * kept for the daemon to repeat on another pair of locators.
 */
#pragma once
#include "supers.h"

#define MANY 4			   /* unanswered packets that no receiver delays its answer to */
#define FEW_PATIENCE (SECOND / 16) /* longer than a receiver delays the answer to fewer */
#define MANY_PATIENCE (MANY * KEEPALIVE_INTERVAL) /* of packets that draw keepalives alone [D42] */
#define ACK_DELAY (SECOND / 5)	   /* no acknowledgement leaves later than what it acknowledges */
#define UNPROVEN_MAX 5		   /* seconds, nearly: as rough_time() counts them [D41] */
#define NEVER (~0ULL)
#define TCP_SYN_FIN 0x03
#define TCP_HEADER_MAX 60 /* octets */
#define LONG_OCTETS 1280  /* every path carries so many (RFC 8200 5) */
#define LONG_TIMES 4	  /* of a long segment: then it is lost because it is long */
#define LONG_INTERVAL (SECOND / 10) /* less than the timer of TCP; sooner it counts once */
#define LONG_WAIT (4 * SECOND)	    /* until a segment of another connection is watched */

/* Whether a packet of a flow wants an answer: any but a bare acknowledgement of TCP. */
static __always_inline int wants_answer(struct __sk_buff *packet, u8 protocol, u32 at)
{
	u32 octets = packet->len - at;
	u8 head[2];

	if (protocol != TCP || super_octets(packet) || octets > IPV6_OCTETS + TCP_HEADER_MAX)
		return 1;
	if (bpf_skb_load_bytes(packet, at + IPV6_OCTETS + 12, head, 2))
		return 1;
	return head[1] & TCP_SYN_FIN || octets > IPV6_OCTETS + (u32)(head[0] >> 4) * 4;
}

/* Whether anything was heard after the first unanswered packet went. */
static __always_inline int is_answered(const struct outbound *flow, const struct inbound *back)
{
	return back->answered || back->heard_ns >= flow->unanswered_ns;
}

/* How long the silence of a peer means nothing. What is not TCP may draw no answer but keepalives:
 * nearly twice the usual gap, if that is known, or until two of them are missing.
 */
static __always_inline u64 patience_of(const struct outbound *flow, const struct inbound *back,
				       u8 protocol)
{
	int many = flow->unanswered >= MANY;
	u64 patience = NEVER;

	if (protocol == TCP)
		patience = many ? 0 : FEW_PATIENCE;
	else if (back->gap_ns)
		patience = 7ULL * (back->gap_ns > TICK_USUAL ? back->gap_ns : TICK_USUAL) / 4;
	if (many && patience > MANY_PATIENCE)
		patience = MANY_PATIENCE;
	return patience > flow->silence_ns ? patience : flow->silence_ns;
}

/* Takes the report of an activity to write or to send it; a second writer gives up. */
static __always_inline int take_report(struct activity *active)
{
	__sync_fetch_and_add(&active->writers, 1);
	if (*(volatile u32 *)&active->writers == 1)
		return 1;
	__sync_fetch_and_add(&active->writers, -1);
	return 0;
}

static __always_inline void leave_report(struct activity *active)
{
	__sync_fetch_and_add(&active->writers, -1);
}

/* The next packet looks at the activity of its flow, though it may not be the first of its tick. */
static __always_inline void look_again(struct outbound *flow)
{
	flow->kept = bpf_jiffies64() - 1;
}

/* The timer of a flow has expired. */
static int on_timer(void *map, u32 *label, struct activity *active)
{
	struct outbound *flow = bpf_map_lookup_elem(&outbound, &active->aids);
	struct inbound *back = bpf_map_lookup_elem(&inbound, label);
	u64 now = bpf_ktime_get_ns(), silent, patience;

	(void)map;
	active->is_armed = 0;
	if (!flow || !back || flow->local_label != *label)
		return 0;
	look_again(flow);
	if (!flow->unanswered_ns || is_answered(flow, back))
		return 0;
	silent = now - flow->unanswered_ns;
	patience = patience_of(flow, back, TCP);
	if (silent < patience) {
		active->is_armed = !bpf_timer_start(&active->timer, patience - silent, 0);
		active->is_patient = flow->unanswered < MANY;
		return 0;
	}
	active->is_patient = 0;
	if (now - flow->reported_ns <= flow->silence_ns)
		return 0;
	if (!take_report(active)) {
		active->is_armed = !bpf_timer_start(&active->timer, SECOND / 1000, 0);
		return 0;
	}
	flow->reported_ns = now;
	if (may_report_of(active->report.user, UNANSWERED_PACKET, REPORTS_PER_SECOND)) {
		active->report.silent_ns = silent;
		if (bpf_ringbuf_output(&reports, &active->report, sizeof(active->report), 0))
			count(REPORTS_LOST);
	}
	leave_report(active);
	return 0;
}

static __always_inline struct activity *new_activity(const u32 *label)
{
	struct activity *active;
	u32 first = 0;
	void *blank = bpf_map_lookup_elem(&blanks, &first);

	if (!blank || bpf_map_update_elem(&activities, label, blank, BPF_NOEXIST))
		return 0;
	active = bpf_map_lookup_elem(&activities, label);
	if (!active)
		return 0;
	active->report.kind = UNANSWERED_PACKET;
	active->report.local_label = *label;
	if (settings.timers) {
		bpf_timer_init(&active->timer, &activities, CLOCK_MONOTONIC);
		bpf_timer_set_callback(&active->timer, on_timer);
	}
	return active;
}

static __always_inline void copy_segment(struct __sk_buff *packet, struct activity *active,
					 const struct pair *aids, u32 at, u64 now)
{
	struct report *report = &active->report;

	__sync_fetch_and_add(&active->version, 1);
	report->octets = copy_packet(packet, at, report->packet, REPORT_OCTETS);
	report->segment_octets = super_octets(packet);
	report->user = bpf_get_socket_uid(packet);
	active->aids = *aids;
	active->kept_ns = now;
	__sync_fetch_and_add(&active->version, 1);
}

/* Keeps a segment that wants an answer, and has the timer look for that; once in a tick, or until
 * the timer has expired.
 */
static __always_inline void keep(struct __sk_buff *packet, struct outbound *flow,
				 const struct pair *aids, u32 at, u64 now)
{
	u32 label = flow->local_label, tick = bpf_jiffies64();
	struct activity *active;

	if (flow->kept == (u16)tick)
		return;
	active = bpf_map_lookup_elem(&activities, &label);
	if (!active)
		active = new_activity(&label);
	if (!active)
		return;
	if (active->tick != tick && take_report(active)) {
		active->tick = tick;
		copy_segment(packet, active, aids, at, now);
		leave_report(active);
	}
	if (settings.timers && !active->is_armed)
		active->is_armed = !bpf_timer_start(&active->timer, flow->silence_ns, 0);
	if (active->tick == tick && active->is_armed && !active->is_patient)
		flow->kept = tick;
}

/* Whether this processor has kept a segment of a connection in this tick; it will have. */
static __always_inline int is_recent(const struct connection *connection, u64 tick)
{
	u32 first = 0;
	struct recent *last = bpf_map_lookup_elem(&recents, &first);

	if (!last)
		return 1;
	if (last->tick == tick && last->connection.local_label == connection->local_label &&
	    last->connection.ports == connection->ports)
		return 1;
	last->connection = *connection;
	last->tick = tick;
	return 0;
}

static __always_inline struct segment *new_segment(const struct connection *connection)
{
	u32 first = 0;
	void *blank = bpf_map_lookup_elem(&blanks, &first);

	if (!blank || bpf_map_update_elem(&segments, connection, blank, BPF_NOEXIST))
		return 0;
	return bpf_map_lookup_elem(&segments, connection);
}

/* Keeps a segment that wants an answer for its connection, once in a tick. */
static __attribute__((noinline)) int keep_of_connection(struct __sk_buff *packet, u32 label, u32 at)
{
	struct connection connection = {.local_label = label};
	u64 tick = bpf_jiffies64();
	struct segment *segment;

	if (bpf_skb_load_bytes(packet, at + IPV6_OCTETS, &connection.ports, 4) ||
	    is_recent(&connection, tick))
		return 0;
	segment = bpf_map_lookup_elem(&segments, &connection);
	if (!segment)
		segment = new_segment(&connection);
	if (!segment || segment->tick == (u32)tick)
		return 0;
	segment->tick = tick;
	__sync_fetch_and_add(&segment->version, 1);
	segment->octets = copy_packet(packet, at, segment->packet, SEGMENT_OCTETS);
	segment->segment_octets = super_octets(packet);
	segment->kept_ns = bpf_ktime_get_ns();
	__sync_fetch_and_add(&segment->version, 1);
	return 0;
}

/* Many packets are unanswered now, and the timer may wait as for few: it looks T after the first.
 */
static __always_inline void hasten(const struct outbound *flow)
{
	u32 label = flow->local_label;
	struct activity *active;
	u64 silent;

	if (flow->kept == (u16)bpf_jiffies64())
		return; /* it is not armed so */
	active = bpf_map_lookup_elem(&activities, &label);
	if (!active || !active->is_patient)
		return;
	active->is_patient = 0;
	silent = bpf_ktime_get_ns() - flow->unanswered_ns;
	active->is_armed = !bpf_timer_start(
		&active->timer, silent < flow->silence_ns ? flow->silence_ns - silent : 0, 0);
}

/* Counts a TCP segment that wants an answer; a super-packet is many. */
static __always_inline void count_unanswered(struct __sk_buff *packet, struct outbound *flow)
{
	if (flow->unanswered >= MANY)
		return;
	flow->unanswered = super_octets(packet) ? MANY : flow->unanswered + 1;
	if (flow->unanswered == MANY)
		hasten(flow);
}

/* Counts a packet that is not TCP, if it draws a keepalive: one that comes sooner may reach a peer
 * that has just sent, and owes none [D42].
 */
static __always_inline void count_others(struct outbound *flow, int is_first, u64 now)
{
	if (flow->unanswered < MANY &&
	    (is_first || now - flow->unanswered_ns >= KEEPALIVE_INTERVAL))
		flow->unanswered++;
}

/* Says that a packet went unanswered, with a copy of the one at hand. */
static __always_inline void report_silence(struct __sk_buff *packet, struct outbound *flow, u32 at,
					   u64 now)
{
	struct report *report;

	if (now - flow->reported_ns <= flow->silence_ns)
		return;
	flow->reported_ns = now;
	report = begin_report(packet, UNANSWERED_PACKET, flow->local_label, at);
	if (!report)
		return;
	report->silent_ns = flow->unanswered_ns ? now - flow->unanswered_ns : 0;
	bpf_ringbuf_submit(report, 0);
}

/* Whether a long segment is sent again and again although its peer is heard in between: a router on
 * the path may drop it and say nothing (RFC 2923 2.1). One connection of the flow is watched.
 */
static __always_inline int is_lost_for_its_length(struct __sk_buff *packet,
						  const struct outbound *flow,
						  const struct inbound *back, u32 at, u64 now)
{
	struct long_segment this = {.sent_ns = now, .times = 1}, *last;
	u32 label = flow->local_label;

	if (super_octets(packet) || packet->len - at <= LONG_OCTETS ||
	    bpf_skb_load_bytes(packet, at + IPV6_OCTETS, &this, 8))
		return 0;
	last = bpf_map_lookup_elem(&long_segments, &label);
	if (!last) {
		bpf_map_update_elem(&long_segments, &label, &this, 0);
		return 0;
	}
	if (last->ports == this.ports && last->sequence == this.sequence) {
		if (now - last->sent_ns < LONG_INTERVAL)
			return 0;
		if (back->received_ns > last->sent_ns)
			this.times = last->times + 1;
	} else if (last->ports != this.ports && now - last->sent_ns < LONG_WAIT) {
		return 0;
	}
	*last = this;
	return !(this.times % LONG_TIMES);
}

/* Says that long segments do not arrive, with a copy of one. */
static __always_inline void report_long(struct __sk_buff *packet, const struct outbound *flow,
					u32 at)
{
	struct report *report = begin_report(packet, LONG_REPEATED, flow->local_label, at);

	if (report)
		bpf_ringbuf_submit(report, 0);
}

/* Whether a bare acknowledgement is a probe of TCP's own: it leaves long after anything came. */
static __always_inline int is_probe(const struct inbound *back, u64 now)
{
	return back->received_ns && now - back->received_ns > ACK_DELAY;
}

/* Data can be forged: reports a flow that sends and has had no authentic message for long. */
static __always_inline void watch_proof(struct inbound *back, u32 label, u64 now)
{
	u16 rough = rough_time(now);

	if ((u16)(rough - back->proven) < UNPROVEN_MAX)
		return;
	back->proven = rough;
	notify(LONG_UNPROVEN, label, &back->near[0].peer);
}

/* A packet of a flow leaves.
 *
 * TCP segments with data are looked at one by one, since the last of them may be the last for long.
 * All others once in a tick: the clock costs more than a table. A stream of super-packets is answered
 * many times in a tick, and nothing but that is looked for until the next.
 */
static __always_inline void watch_silence(struct __sk_buff *packet, struct outbound *flow,
					  const struct pair *aids, u8 protocol, u32 at)
{
	u16 tick = bpf_jiffies64();
	int is_new_tick = flow->tick != tick, wants, is_first;
	struct inbound *back;
	u64 now;

	if (protocol != TCP && !is_new_tick)
		return;
	wants = wants_answer(packet, protocol, at);
	if (!wants && !is_new_tick)
		return;
	if (wants && protocol == TCP)
		keep_of_connection(packet, flow->local_label, at);
	back = bpf_map_lookup_elem(&inbound, &flow->local_label);
	if (!back)
		return;
	if (flow->unanswered_ns && is_answered(flow, back)) {
		back->answered = 0;
		flow->unanswered_ns = 0;
		flow->unanswered = 0;
	}
	if (!is_new_tick && flow->unanswered_ns) {
		count_unanswered(packet, flow);
		return;
	}
	now = bpf_ktime_get_ns();
	is_first = !flow->unanswered_ns;
	if (is_first && (wants || is_probe(back, now))) {
		back->answered = 0;
		flow->unanswered_ns = now; /* first, as a timer that expires now arms itself anew */
	}
	if (!is_new_tick && flow->kept == tick && super_octets(packet)) {
		flow->unanswered = MANY;
		return;
	}
	flow->tick = tick;
	flow->sent_ns = now;
	if (back->owes)
		back->owes = 0;
	watch_proof(back, flow->local_label, now);
	if (!flow->unanswered_ns)
		return;
	if (protocol == TCP) {
		keep(packet, flow, aids, at, now);
		watch_super(packet, flow, back, at, now);
		if (is_lost_for_its_length(packet, flow, back, at, now))
			report_long(packet, flow, at);
	}
	if (!is_first && now - flow->unanswered_ns > patience_of(flow, back, protocol))
		report_silence(packet, flow, at, now);
	if (protocol == TCP)
		count_unanswered(packet, flow);
	else
		count_others(flow, is_first, now);
}
