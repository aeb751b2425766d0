// SPDX-License-Identifier: MIT
// Shows each snapshot of the stream. Texts are set as textContent alone, never as markup.
"use strict";

const STALE_MS = 5000;
const AGAIN_MS = 2000;
const STRIP_S = 3600;
const SVG = "http://www.w3.org/2000/svg";
const STATES = new Set(["up", "degraded", "down"]);
const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

const place = (id) => document.getElementById(id);
const shown = new Map();
let heardMs = 0;
let counted = null;

function element(tag, text, kind) {
  const one = document.createElement(tag);
  one.textContent = text;
  if (kind) one.className = kind;
  return one;
}

function filled(tag, kind, children) {
  const one = element(tag, "", kind);
  one.append(...children);
  return one;
}

function duration(seconds) {
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  let left = Math.round(seconds);
  const parts = [];
  for (const [unit, size] of UNITS) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count || parts.length) parts.push(count ? `${count} ${unit}` : "");
    if (parts.length === 2) break;
  }
  return parts.filter(Boolean).join(" ");
}

function clock(atS, nowS) {
  const at = new Date(atS * 1000);
  const isToday = at.toDateString() === new Date(nowS * 1000).toDateString();
  const time = at.toLocaleTimeString(undefined, { hour12: false });
  return isToday ? time : `${at.toLocaleDateString()} ${time}`;
}

function octets(count) {
  let value = count;
  for (const unit of ["B", "kB", "MB", "GB", "TB"]) {
    if (value < 1000) return `${value.toFixed(unit === "B" ? 0 : 1)} ${unit}`;
    value /= 1000;
  }
  return `${value.toFixed(1)} PB`;
}

function pair(local, peer) {
  return `${local} → ${peer}`;
}

function shape(tag, attributes) {
  const one = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, value);
  return one;
}

// The states of an uplink in the last hour: now its state, before that what each change says.
function strip(uplink, events, nowS) {
  const changes = events.filter((one) => one.event === "uplink_changed" && one.uplink === uplink.uplink);
  const spans = [[uplink.state, uplink.since, nowS]];
  for (const one of changes) spans.push([one.old, one.at - one.lasted_s, one.at]);
  const beginS = nowS - STRIP_S;
  const bars = spans.filter(([state, , end]) => STATES.has(state) && end > beginS).map(([state, start, end]) => {
    const width = Math.max(end - Math.max(start, beginS), STRIP_S / 200); // a short one is seen too
    return shape("rect", { class: state, x: Math.max(0, end - beginS - width), width, height: 1 });
  });
  const label = { role: "img", "aria-label": "states in the last hour" };
  const svg = shape("svg", { viewBox: `0 0 ${STRIP_S} 1`, preserveAspectRatio: "none", ...label });
  svg.append(...bars.filter((one) => one.getAttribute("class") === "up"));
  svg.append(...bars.filter((one) => one.getAttribute("class") !== "up"));
  const ends = filled("p", "ends", [element("span", "1 h ago"), element("span", "now")]);
  return filled("div", "strip", [svg, ends]);
}

// What the operator wants of an uplink: noid use, noid avoid.
function preference(one, nowS) {
  if (one.preference === "use") return "used before all others";
  if (one.preference !== "avoid") return "";
  return `avoided until ${one.until === null ? "noid auto" : clock(one.until, nowS)}`;
}

function hostFacts(one) {
  return [
    ["round trip", one.round_trip_us === null ? "–" : `${(one.round_trip_us / 1000).toFixed(1)} ms`],
    ["loss", one.loss === null ? "–" : `${(100 * one.loss).toFixed(0)} %`],
    ["contexts", String(one.contexts)],
    ["received", octets(one.received_octets)],
    ["sent", octets(one.sent_octets)],
    ["locators", one.locators.join(", ") || "–"],
  ];
}

function borderFacts(one) {
  return [
    ["uplink", one.device || "–"],
    ["gateway", one.gateway || "–"],
    ["priority", String(one.priority)],
    ["weight", String(one.weight)],
  ];
}

function uplinkCard(one, events, nowS) {
  const marks = ["deprecated", "backup"].filter((mark) => one[mark]);
  marks.push(preference(one, nowS));
  const since = ["since", `${clock(one.since, nowS)} (${duration(nowS - one.since)})`];
  const facts = [since, ...("device" in one ? borderFacts(one) : hostFacts(one))];
  const list = filled("dl", "", facts.flatMap(([name, text]) => [element("dt", name), element("dd", text)]));
  const head = filled("h3", "", [element("span", one.uplink), element("strong", one.state, "state")]);
  const why = element("p", [one.reason_text, ...marks].filter(Boolean).join(", "), "why");
  const card = filled("li", `uplink ${STATES.has(one.state) ? one.state : ""}`, [head, why, list, strip(one, events, nowS)]);
  card.dataset.uplink = one.uplink;
  card.dataset.state = one.state;
  return card;
}

function eventText(one) {
  switch (one.event) {
    case "uplink_changed": {
      const why = one.reason_text ? `: ${one.reason_text}` : "";
      return [`${one.uplink} is ${one.new}`, `${one.old} for ${duration(one.lasted_s)}${why}`, one.new];
    }
    case "switched": {
      const from = pair(one.old_local_locator, one.old_peer_locator);
      const to = pair(one.new_local_locator, one.new_peer_locator);
      return [`switch with ${one.peer_aid}`, `from ${from} to ${to}: ${one.why}`, "switch"];
    }
    case "switches": {
      const text = `from ${one.old_local_locator} to ${one.new_local_locator}: ${one.why}`;
      return [`${one.count} switches`, text, "switch"];
    }
    case "border_switched": {
      const moves = one.prefixes.map((move) => `${move.prefix}: ${move.old || "none"} → ${move.new || "none"}`);
      return ["switch", moves.join(", "), "switch"];
    }
    default:
      return [`${one.switches ?? 0} more switches`, "", "switch"];
  }
}

function eventItem(one, nowS) {
  const [title, text, kind] = eventText(one);
  const known = STATES.has(kind) ? kind : "switch";
  return filled("li", known, [
    element("time", clock(one.at, nowS)),
    filled("div", "", [element("strong", title), element("p", text)]),
  ]);
}

function contextRow(one) {
  const name = one.peer_name ? `${one.peer_name} (${one.peer_aid})` : one.peer_aid;
  const cells = [name, one.state, one.local_locator, one.peer_locator];
  return filled("tr", "", cells.map((text) => element("td", text ?? "–")));
}

// Changes a list only if its facts have changed: what a user has selected stays selected.
function update(id, facts, children) {
  const text = JSON.stringify(facts);
  if (shown.get(id) === text) return;
  shown.set(id, text);
  place(id).replaceChildren(...children());
}

function show(facts) {
  const trouble = facts.trouble ?? "";
  place("trouble").textContent = trouble;
  place("trouble").hidden = !trouble;
  document.body.classList.toggle("stale", Boolean(trouble));
  if (trouble) return;
  place("host").textContent = facts.host;
  document.title = `noid ${facts.host}`.trim();
  const { now, uplinks, events } = facts;
  place("uplinks").replaceChildren(...uplinks.map((one) => uplinkCard(one, events, now)));
  update("events", events, () => events.map((one) => eventItem(one, now)));
  if (!events.length) place("events").replaceChildren(element("li", "nothing has happened yet", "none"));
  const isBorder = "prefixes" in facts;
  place("border").hidden = !isBorder;
  place("host-contexts").hidden = isBorder;
  (isBorder ? showBorder : showContexts)(facts);
}

function showContexts({ contexts, contexts_count: count }) {
  update("contexts", contexts, () => contexts.map(contextRow));
  const isPart = contexts.length < count;
  place("count").textContent = count + (isPart ? `, ${contexts.length} shown` : "");
}

function prefixRow(one) {
  const row = filled("tr", "", [one.prefix, one.provider, one.leaves_by || "none"].map((text) => element("td", text)));
  if (one.leaves_by !== one.provider) row.dataset.rewritten = one.leaves_by;
  return row;
}

// The counts of a border, and how fast they grow since the snapshot before.
function showBorder({ now, use, switches, prefixes, counts, troubles }) {
  update("prefixes", prefixes, () => prefixes.map(prefixRow));
  place("use").textContent = `use ${use}, ${switches} switches`;
  const before = counted;
  counted = { now, counts: new Map(counts) };
  const rate = (name, count) => {
    if (!before || now <= before.now) return "";
    const grown = (count - (before.counts.get(name) ?? count)) / (now - before.now);
    return grown > 0 ? ` (${grown.toFixed(0)}/s)` : "";
  };
  const rows = counts.map(([name, count]) => [name, `${count}${rate(name, count)}`]);
  rows.push(...troubles.map((text) => ["trouble", text]));
  place("counts").replaceChildren(...rows.flatMap(([name, text]) => [element("dt", name), element("dd", text)]));
}

function connection(text) {
  if (place("connection").textContent !== text) place("connection").textContent = text;
  place("connection").className = text === "live" ? "live" : "";
  if (text !== "live") document.body.classList.add("stale");
}

function connect() {
  const stream = new EventSource("events");
  stream.onmessage = (message) => {
    heardMs = performance.now();
    connection("live");
    show(JSON.parse(message.data));
  };
  stream.onerror = () => {
    connection("no connection to noid web");
    if (stream.readyState === EventSource.CLOSED) setTimeout(connect, AGAIN_MS);
  };
}

setInterval(() => {
  if (heardMs && performance.now() - heardMs > STALE_MS) connection("no news from noid web");
}, STALE_MS / 5);
connect();
