-- SPDX-License-Identifier: MIT
-- Wireshark dissector of the M6 shim: control messages (ICMPv6 type 200) with all options, and data
-- in slots (next headers 224 to 239), which goes on to the dissector of its protocol with the AIDs
-- of its context as addresses. Contexts are learned from the control messages of the same capture.
--
-- Install: copy to ~/.local/lib/wireshark/plugins/, or: tshark -X lua_script:noid.lua -r FILE

local m6 = Proto("m6", "Multihoming without IP Identifiers (M6 shim)")
m6.prefs.icmpv6_type = Pref.uint("ICMPv6 type", 200, "Type of control messages")
m6.prefs.rewritable_first = Pref.uint("First next header of P1", 224, "Routers may rewrite the source")
m6.prefs.fixed_first = Pref.uint("First next header of P2", 232, "Routers must not rewrite the source")

local codes = {
    [1] = "INIT", [2] = "CC", [3] = "CCR", [4] = "CONF", [5] = "UR", [6] = "UA", [7] = "UC",
    [8] = "CLOSE", [9] = "CLOSEACK", [10] = "KEEPALIVE",
}
local options = {
    [1] = "Context", [2] = "Sender's locators", [3] = "Receiver's locators", [4] = "Tokens",
    [5] = "Cookie", [6] = "Authentication", [7] = "Reset token", [8] = "Newest nonce heard",
    [9] = "Public key",
}
local SLOTS, SLOT_ICMPV6, SLOT_ESCAPE, ESCAPE_OCTETS = 8, 6, 7, 8
local PROTOCOLS = { [0] = 6, [1] = 17, [2] = 132, [4] = 50, [5] = 44, [6] = 58 }
local ICMPV6, NO_NEXT_HEADER, FIXED_OCTETS, HEAD_OCTETS = 58, 59, 48, 4

local f = m6.fields
f.code = ProtoField.uint8("m6.code", "Code", base.DEC, codes)
f.checksum = ProtoField.uint16("m6.checksum", "Checksum", base.HEX)
f.next_header = ProtoField.uint8("m6.next_header", "Next header of the piggyback")
f.header_octets = ProtoField.uint16("m6.header_octets", "Header length in octets")
f.version = ProtoField.uint16("m6.version", "Version", base.DEC, nil, 0xf000)
f.discarded = ProtoField.bool("m6.flags.ulp_packet_discarded", "ULP packet discarded", 16, nil, 0x800)
f.hears_nothing = ProtoField.bool("m6.flags.hears_nothing", "Hears nothing", 16, nil, 0x400)
f.hears_here = ProtoField.bool("m6.flags.hears_here", "Hears here", 16, nil, 0x200)
f.data_lost = ProtoField.bool("m6.flags.data_lost", "Data lost", 16, nil, 0x100)
f.all_data_lost = ProtoField.bool("m6.flags.all_data_lost", "All data lost", 16, nil, 0x080)
f.answer_here = ProtoField.bool("m6.flags.answer_here", "Answer here", 16, nil, 0x040)
f.data_asked = ProtoField.bool("m6.flags.data_asked", "Has data come?", 16, nil, 0x020)
f.nonce = ProtoField.uint64("m6.nonce", "Nonce", base.HEX)
f.sender_aid = ProtoField.ipv6("m6.sender_aid", "AID of the sender")
f.receiver_aid = ProtoField.ipv6("m6.receiver_aid", "AID of the receiver")
f.option = ProtoField.uint16("m6.option", "Option", base.DEC, options, 0x7fff)
f.critical = ProtoField.bool("m6.option.critical", "Critical", 16, nil, 0x8000)
f.option_octets = ProtoField.uint16("m6.option.length", "Length")
f.option_value = ProtoField.bytes("m6.option.value", "Value")
f.sender_label = ProtoField.uint32("m6.sender_label", "Flow label of the sender", base.HEX, nil, 0xfffff)
f.receiver_label =
    ProtoField.uint32("m6.receiver_label", "Flow label of the receiver", base.HEX, nil, 0xfffff)
f.sender_birthday = ProtoField.uint32("m6.sender_birthday", "Birthday counter of the sender")
f.receiver_birthday = ProtoField.uint32("m6.receiver_birthday", "Birthday counter of the receiver")
f.locator = ProtoField.ipv6("m6.locator", "Locator")
f.locator_local = ProtoField.bool("m6.locator.local", "In Lsl", 8, nil, 0x80)
f.locator_remote = ProtoField.bool("m6.locator.remote", "In Lsr", 8, nil, 0x40)
f.locator_deprecated = ProtoField.bool("m6.locator.deprecated", "Deprecated", 8, nil, 0x20)
f.locator_broken = ProtoField.bool("m6.locator.broken", "Broken", 8, nil, 0x10)
f.locator_backup = ProtoField.bool("m6.locator.backup", "Backup", 8, nil, 0x08)
f.locator_weight = ProtoField.uint8("m6.locator.weight", "Weight less one", base.DEC, nil, 0x07)
f.sender_token = ProtoField.uint64("m6.sender_token", "Token of the sender", base.HEX)
f.receiver_token = ProtoField.uint64("m6.receiver_token", "Token of the receiver", base.HEX)
f.cookie_timestamp = ProtoField.uint64("m6.cookie.timestamp", "Timestamp of the responder")
f.cookie_locator = ProtoField.ipv6("m6.cookie.locator", "Locator to which the CC was sent")
f.cookie_hash = ProtoField.bytes("m6.cookie.hash", "Keyed hash")
f.authentication = ProtoField.bytes("m6.authentication", "Authentication")
f.reset_token = ProtoField.bytes("m6.reset_token", "Reset token")
f.heard = ProtoField.uint64("m6.heard", "Newest nonce heard", base.HEX)
f.key = ProtoField.bytes("m6.key", "X25519 public key")
f.slot = ProtoField.uint8("m6.slot", "Slot")
f.rewritable = ProtoField.bool("m6.rewritable", "Routers may rewrite the source")
f.source_aid = ProtoField.ipv6("m6.source_aid", "AID of the source")
f.destination_aid = ProtoField.ipv6("m6.destination_aid", "AID of the destination")
f.source_before = ProtoField.ipv6("m6.source_before", "Source locator of the packet before")
f.escaped = ProtoField.uint8("m6.escaped", "Protocol in the escape slot")

local truncated = ProtoExpert.new(
    "m6.truncated", "Truncated", expert.group.MALFORMED, expert.severity.ERROR)
local unknown_context = ProtoExpert.new(
    "m6.unknown_context", "No control message of this context in the capture before",
    expert.group.UNDECODED, expert.severity.NOTE)
local truncated_inner = ProtoExpert.new(
    "m6.truncated_inner", "The packet in it is truncated", expert.group.MALFORMED,
    expert.severity.WARN)
local nested = ProtoExpert.new(
    "m6.nested", "Too many packets in packets", expert.group.MALFORMED, expert.severity.WARN)
local source_moved = ProtoExpert.new(
    "m6.source_moved", "The source locator has changed: a border rewrites, or the host switched",
    expert.group.SEQUENCE, expert.severity.NOTE)
m6.experts = { truncated, truncated_inner, nested, unknown_context, source_moved }

local flow_label = Field.new("ipv6.flow")
local source_address, destination_address = Field.new("ipv6.src"), Field.new("ipv6.dst")
local protocols = DissectorTable.get("ip.proto")
local headers = DissectorTable.get("ipv6.nxt")
local original_icmpv6 = Dissector.get("icmpv6")

-- "LABEL DESTINATION" -> the AIDs of source and destination, of the context known last.
local contexts = {}
-- Frame number -> the AIDs of its context, as known when the frame was first read.
local frames = {}
-- "LABEL AID AID" -> the source of the data packet last seen; frame number -> the one before it.
local sources, moved = {}, {}

function m6.init()
    contexts, frames, sources, moved = {}, {}, {}, {}
end

-- How deep the present packet is in others; Lua and Wireshark end with an error somewhat deeper.
local NESTED_MAX = 8
local depth, frame = 0, 0

-- A packet that is cut short ends the dissection of what it carries, not that of the shim.
local function dissect_inner(protocol, tvb, pinfo, root, tree)
    if frame ~= pinfo.number then depth, frame = 0, pinfo.number end
    if depth == NESTED_MAX then
        tree:add_proto_expert_info(nested)
        return
    end
    depth = depth + 1
    local whole = pcall(function()
        if protocol == ICMPV6 then
            original_icmpv6:call(tvb, pinfo, root)
        elseif protocols:try(protocol, tvb, pinfo, root) == 0 then
            headers:try(protocol, tvb, pinfo, root)
        end
    end)
    depth = depth - 1
    if not whole then tree:add_proto_expert_info(truncated_inner) end
end

-- An address as text. That of Wireshark may be a name, which its owner in the DNS can choose.
local function address_text(octets)
    return octets:bytes():tohex():gsub("%x%x%x%x", "%0:"):sub(1, -2)
end

-- The same for an address of the innermost IPv6 header so far.
local function innermost(field)
    local found = { field() }
    return address_text(found[#found].range)
end

local function learn(label, locators, source, destination)
    if label ~= 0 then
        for _, locator in ipairs(locators) do
            contexts[label .. " " .. locator] = { source = source, destination = destination }
        end
    end
end

local function dissect_locators(value, tree, found)
    if value:len() < 4 then return false end
    local count = value(0, 1):uint()
    local first = 4 + math.floor((count + 7) / 8) * 8
    if value:len() < first + 16 * count then return false end
    for number = 0, count - 1 do
        local address, flags = value(first + 16 * number, 16), value(4 + number, 1)
        local node = tree:add(f.locator, address)
        node:add(f.locator_local, flags)
        node:add(f.locator_remote, flags)
        node:add(f.locator_deprecated, flags)
        node:add(f.locator_broken, flags)
        node:add(f.locator_backup, flags)
        node:add(f.locator_weight, flags)
        found[#found + 1] = address_text(address)
    end
    return true
end

local function fixed(field)
    return function(value, tree) tree:add(field, value) return true end
end

-- Option type -> its least length in octets, and what dissects its value.
local dissectors = {
    [1] = { 16, function(value, tree, said)
        tree:add(f.sender_label, value(0, 4))
        tree:add(f.receiver_label, value(4, 4))
        tree:add(f.sender_birthday, value(8, 4))
        tree:add(f.receiver_birthday, value(12, 4))
        said.sender_label = bit.band(value(0, 4):uint(), 0xfffff)
        said.receiver_label = bit.band(value(4, 4):uint(), 0xfffff)
        return true
    end },
    [2] = { 4, function(value, tree, said) return dissect_locators(value, tree, said.sender) end },
    [3] = { 4, function(value, tree, said) return dissect_locators(value, tree, said.receiver) end },
    [4] = { 16, function(value, tree)
        tree:add(f.sender_token, value(0, 8))
        tree:add(f.receiver_token, value(8, 8))
        return true
    end },
    [5] = { 40, function(value, tree)
        tree:add(f.cookie_timestamp, value(0, 8))
        tree:add(f.cookie_locator, value(8, 16))
        tree:add(f.cookie_hash, value(24, 16))
        return true
    end },
    [6] = { 16, fixed(f.authentication) },
    [7] = { 16, fixed(f.reset_token) },
    [8] = { 8, fixed(f.heard) },
    [9] = { 32, fixed(f.key) },
}

local function dissect_options(tvb, at, last, tree, said)
    while at + HEAD_OCTETS <= last do
        local number = bit.band(tvb(at, 2):uint(), 0x7fff)
        local octets = tvb(at + 2, 2):uint()
        local padded = HEAD_OCTETS + octets + (-(HEAD_OCTETS + octets)) % 8
        if at + HEAD_OCTETS + octets > last then return false end
        local node = tree:add(f.option, tvb(at, 2))
        node:set_len(math.min(padded, last - at))
        node:add(f.critical, tvb(at, 2))
        node:add(f.option_octets, tvb(at + 2, 2))
        local known = dissectors[number]
        if octets > 0 then
            local value = tvb(at + HEAD_OCTETS, octets)
            if known == nil then
                node:add(f.option_value, value)
            elseif octets < known[1] or not known[2](value, node, said) then
                return false
            end
        end
        at = at + padded
    end
    return true
end

local function dissect_control(tvb, pinfo, root)
    local tree = root:add(m6, tvb())
    pinfo.cols.protocol = "M6"
    if tvb:len() < FIXED_OCTETS then
        tree:add_proto_expert_info(truncated)
        return
    end
    local name = codes[tvb(1, 1):uint()] or ("code " .. tvb(1, 1):uint())
    pinfo.cols.info = name
    tree:append_text(", " .. name)
    tree:add(f.code, tvb(1, 1))
    tree:add(f.checksum, tvb(2, 2))
    tree:add(f.next_header, tvb(4, 1))
    local header_octets = tvb(5, 1):uint() * 8
    tree:add(f.header_octets, tvb(5, 1), header_octets)
    tree:add(f.version, tvb(6, 2))
    local flags = {
        f.discarded, f.hears_nothing, f.hears_here, f.data_lost, f.all_data_lost, f.answer_here,
        f.data_asked,
    }
    for _, one in ipairs(flags) do
        tree:add(one, tvb(6, 2))
    end
    tree:add(f.nonce, tvb(8, 8))
    tree:add(f.sender_aid, tvb(16, 16))
    tree:add(f.receiver_aid, tvb(32, 16))
    local sender, receiver = address_text(tvb(16, 16)), address_text(tvb(32, 16))
    local said = { sender = { sender }, receiver = { receiver } }
    local last = math.min(header_octets, tvb:len())
    if header_octets > tvb:len() or not dissect_options(tvb, FIXED_OCTETS, last, tree, said) then
        tree:add_proto_expert_info(truncated)
        return
    end
    if not pinfo.visited and tvb(1, 1):uint() ~= 7 then
        -- A host finds the context of a packet by its own label.
        learn(said.sender_label or 0, said.sender, receiver, sender)
        learn(said.receiver_label or 0, said.receiver, sender, receiver)
    end
    local protocol = tvb(4, 1):uint()
    if protocol ~= NO_NEXT_HEADER and tvb:len() > header_octets then
        pinfo.src, pinfo.dst = tvb(16, 16):ipv6(), tvb(32, 16):ipv6()
        dissect_inner(protocol, tvb(header_octets):tvb(), pinfo, root, tree)
        pinfo.cols.info:prepend(name .. " + ")
    end
end

local function dissect_slot(tvb, pinfo, root, slot, rewritable)
    local tree = root:add(m6, tvb(0, 0))
    tree:add(f.slot, slot):set_generated()
    tree:add(f.rewritable, rewritable):set_generated()
    pinfo.cols.protocol = "M6"
    if slot == SLOT_ICMPV6 and tvb:len() > 0 and tvb(0, 1):uint() == m6.prefs.icmpv6_type then
        return dissect_control(tvb, pinfo, root)
    end
    local label = flow_label()
    if not pinfo.visited and label ~= nil then
        frames[pinfo.number] = contexts[label.value .. " " .. innermost(destination_address)]
    end
    local known = frames[pinfo.number]
    if known ~= nil then
        if not pinfo.visited then
            local key = label.value .. " " .. known.source .. " " .. known.destination
            local before, now = sources[key], innermost(source_address)
            if before ~= nil and before ~= now then moved[pinfo.number] = before end
            sources[key] = now
        end
        if moved[pinfo.number] ~= nil then
            local address = Address.ipv6(moved[pinfo.number])
            tree:add(f.source_before, address):set_generated()
            tree:add_proto_expert_info(source_moved)
        end
        pinfo.src, pinfo.dst = Address.ipv6(known.source), Address.ipv6(known.destination)
        tree:add(f.source_aid, pinfo.src):set_generated()
        tree:add(f.destination_aid, pinfo.dst):set_generated()
    else
        tree:add_proto_expert_info(unknown_context)
    end
    local protocol, rest = PROTOCOLS[slot], tvb
    if slot == SLOT_ESCAPE then
        if tvb:len() < ESCAPE_OCTETS then
            tree:add_proto_expert_info(truncated)
            return
        end
        protocol = tvb(0, 1):uint()
        tree:add(f.escaped, tvb(0, 1))
        rest = tvb(ESCAPE_OCTETS):tvb()
    end
    if protocol ~= nil and rest:len() > 0 then
        dissect_inner(protocol, rest, pinfo, root, tree)
    end
end

-- One dissector for each next header: a dissector is not told by which it was called.
for slot = 0, SLOTS - 1 do
    for first, rewritable in pairs({ rewritable_first = true, fixed_first = false }) do
        local one = Proto(
            string.format("m6%s%d", rewritable and "p1" or "p2", slot),
            string.format("M6 shim, %s slot %d", rewritable and "P1" or "P2", slot))
        function one.dissector(tvb, pinfo, root)
            dissect_slot(tvb, pinfo, root, slot, rewritable)
        end
        protocols:set(m6.prefs[first] + slot, one)
    end
end

function m6.dissector(tvb, pinfo, root)
    if tvb:len() > 0 and tvb(0, 1):uint() == m6.prefs.icmpv6_type then
        return dissect_control(tvb, pinfo, root)
    end
    local whole, octets = pcall(function() return original_icmpv6:call(tvb, pinfo, root) end)
    if whole then return octets end
    root:add(m6, tvb(0, 0)):add_proto_expert_info(truncated_inner)
end
protocols:set(ICMPV6, m6)
