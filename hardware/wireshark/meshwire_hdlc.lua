-- Wireshark dissector for the HDLC frames between a NIC and a sensor board (IEC 62056-46, frame format type 3),
-- link type 147 (USER0), as `meshwire capture` and tap+PORT write them on the interface "hdlc".
--
-- Shows:    flags, format, length, segmentation, addresses, control (type, N(S), N(R), P/F), both check sequences with
--           a verdict, the parameters of SNRM and UA; hands the information field of I and UI frames to CoAP.
-- Does not: put segments together; the interface "coap" of the same capture has the whole messages.
-- Use:      copy to the folder "Personal Lua Plugins" (Help > About > Folders), or tshark -X lua_script:FILE

local hdlc = Proto("meshwire_hdlc", "HDLC between NIC and board")

local KINDS = {
    I = "information", RR = "receive ready", RNR = "receive not ready", REJ = "reject",
    SNRM = "set normal response mode", DISC = "disconnect", UA = "unnumbered acknowledgement",
    DM = "disconnected mode", FRMR = "frame reject", UI = "unnumbered information", SABM = "not used here",
    UNKNOWN = "not defined",
}
local SUPERVISORY = { [0x01] = "RR", [0x05] = "RNR", [0x09] = "REJ" }
local UNNUMBERED = {
    [0x83] = "SNRM", [0x43] = "DISC", [0x63] = "UA", [0x0F] = "DM", [0x87] = "FRMR", [0x03] = "UI", [0x2F] = "SABM",
}
local PARAMETERS = {
    [5] = "Maximum information field, transmit", [6] = "Maximum information field, receive",
    [7] = "Window, transmit", [8] = "Window, receive",
}

local f = {
    direction = ProtoField.string("meshwire_hdlc.sender", "Sender"),
    flag = ProtoField.uint8("meshwire_hdlc.flag", "Flag", base.HEX),
    format = ProtoField.uint16("meshwire_hdlc.format", "Format", base.HEX),
    type = ProtoField.uint16("meshwire_hdlc.format.type", "Frame format type (10: type 3)", base.DEC, nil, 0xF000),
    segmented = ProtoField.bool("meshwire_hdlc.segmented", "Segmentation: more follows", 16, nil, 0x0800),
    length = ProtoField.uint16("meshwire_hdlc.length", "Length between the flags", base.DEC, nil, 0x07FF),
    destination = ProtoField.uint32("meshwire_hdlc.destination", "Destination address"),
    source = ProtoField.uint32("meshwire_hdlc.source", "Source address"),
    control = ProtoField.uint8("meshwire_hdlc.control", "Control", base.HEX),
    kind = ProtoField.string("meshwire_hdlc.kind", "Frame"),
    ns = ProtoField.uint8("meshwire_hdlc.ns", "N(S)"),
    nr = ProtoField.uint8("meshwire_hdlc.nr", "N(R)"),
    poll_final = ProtoField.bool("meshwire_hdlc.pf", "Poll/Final"),
    hcs = ProtoField.uint16("meshwire_hdlc.hcs", "Header check sequence (HCS)", base.HEX),
    hcs_good = ProtoField.bool("meshwire_hdlc.hcs.good", "HCS good"),
    fcs = ProtoField.uint16("meshwire_hdlc.fcs", "Frame check sequence (FCS)", base.HEX),
    fcs_good = ProtoField.bool("meshwire_hdlc.fcs.good", "FCS good"),
    info = ProtoField.bytes("meshwire_hdlc.info", "Information"),
    group = ProtoField.bytes("meshwire_hdlc.parameters", "Link parameters"),
    parameter = ProtoField.uint32("meshwire_hdlc.parameter", "Parameter"),
    noise = ProtoField.bytes("meshwire_hdlc.noise", "Octets that are no frame"),
}
hdlc.fields = f

local e = {
    hcs = ProtoExpert.new("meshwire_hdlc.bad_hcs", "HCS is wrong", expert.group.CHECKSUM, expert.severity.ERROR),
    fcs = ProtoExpert.new("meshwire_hdlc.bad_fcs", "FCS is wrong", expert.group.CHECKSUM, expert.severity.ERROR),
    malformed = ProtoExpert.new("meshwire_hdlc.no_frame", "No frame", expert.group.MALFORMED, expert.severity.WARN),
    length = ProtoExpert.new(
        "meshwire_hdlc.bad_length", "Length does not fit", expert.group.MALFORMED, expert.severity.ERROR),
}
hdlc.experts = e

-- Lua 5.2 has bit32, older Wireshark brings bit, Lua 5.3 and later have an operator that the others cannot parse.
local bxor = (bit32 and bit32.bxor) or (bit and bit.bxor) or load("return function(a, b) return a ~ b end")()

local CRC_TABLE = {}
for octet = 0, 255 do
    local crc = octet
    for _ = 1, 8 do
        crc = crc % 2 == 1 and bxor(math.floor(crc / 2), 0x8408) or math.floor(crc / 2)
    end
    CRC_TABLE[octet] = crc
end

-- CRC-16/X-25 of `count` octets from `start`.
local function checksum(buffer, start, count)
    local octets = buffer:bytes(start, count)
    local crc = 0xFFFF
    for position = 0, count - 1 do
        crc = bxor(math.floor(crc / 256), CRC_TABLE[bxor(crc % 256, octets:get_index(position))])
    end
    return bxor(crc, 0xFFFF)
end

-- Value and octets of the address field at `start`; nil when its last octet is missing.
local function read_address(buffer, start)
    local value = 0
    for size = 1, 4 do
        if start + size > buffer:len() then return nil end
        local octet = buffer(start + size - 1, 1):uint()
        value = value * 128 + math.floor(octet / 2)
        if octet % 2 == 1 then return value, size end
    end
    return nil
end

-- Kind, N(S), N(R), P/F of a control octet.
local function read_control(octet)
    local poll_final = math.floor(octet / 16) % 2 == 1
    local nr = math.floor(octet / 32)
    if octet % 2 == 0 then return "I", math.floor(octet / 2) % 8, nr, poll_final end
    local supervisory = SUPERVISORY[octet % 16]
    if supervisory then return supervisory, nil, nr, poll_final end
    return UNNUMBERED[poll_final and octet - 16 or octet] or "UNKNOWN", nil, nil, poll_final
end

local function sender(pinfo)
    if pinfo.p2p_dir == 0 then return "NIC", "board" end -- P2P_DIR_SENT
    if pinfo.p2p_dir == 1 then return "board", "NIC" end -- P2P_DIR_RECV
    return "?", "?"
end

local function check(tree, pinfo, buffer, start, count, field, good_field, bad)
    local sequence = buffer(start + count, 2)
    local item = tree:add_le(field, sequence)
    local expected = checksum(buffer, start, count)
    local good = sequence:le_uint() == expected
    item:append_text(good and " (good)" or string.format(" (WRONG, should be 0x%04x)", expected))
    item:add(good_field, sequence, good):set_generated()
    if not good then item:add_proto_expert_info(bad) end
    return good
end

local function show_parameters(tree, range)
    local data = range:tvb()
    local group = tree:add(f.group, range)
    if data:len() < 3 or data(0, 1):uint() ~= 0x81 or data(1, 1):uint() ~= 0x80 then
        group:append_text(" (not the group 81 80)")
        return
    end
    local position = 3
    while position + 2 <= data:len() do
        local kind, size = data(position, 1):uint(), data(position + 1, 1):uint()
        if size < 1 or size > 4 or position + 2 + size > data:len() then return end
        local item = group:add(f.parameter, data(position + 2, size))
        item:set_text(string.format("%s: %d", PARAMETERS[kind] or ("Parameter " .. kind), data(position + 2, size):uint()))
        position = position + 2 + size
    end
end

local function show_noise(buffer, pinfo, tree, why)
    local item = tree:add(f.noise, buffer())
    item:add_proto_expert_info(e.malformed, why)
    pinfo.cols.info = string.format("no frame: %s, %d octets", why, buffer:len())
    return buffer:len()
end

-- Whatever the octets are, they are shown; a frame as far as it can be followed.
local function dissect(buffer, pinfo, root)
    local from, to = sender(pinfo)
    pinfo.cols.protocol = "HDLC"
    pinfo.cols.src = from
    pinfo.cols.dst = to
    local tree = root:add(hdlc, buffer())
    tree:add(f.direction, from):set_generated()
    if buffer:len() == 0 then
        pinfo.cols.info = "event on the line (see the comment)"
        return 0
    end
    if buffer(0, 1):uint() ~= 0x7E then return show_noise(buffer, pinfo, tree, "no opening flag") end
    if buffer:len() < 9 then return show_noise(buffer, pinfo, tree, "broken off") end
    if math.floor(buffer(1, 1):uint() / 16) ~= 10 then
        return show_noise(buffer, pinfo, tree, "not frame format type 3")
    end
    local destination, destination_size = read_address(buffer, 3)
    local source, source_size
    if destination then source, source_size = read_address(buffer, 3 + destination_size) end
    if not source then return show_noise(buffer, pinfo, tree, "address field without end") end
    local at = 3 + destination_size + source_size
    if at + 3 > buffer:len() then return show_noise(buffer, pinfo, tree, "broken off") end

    local length = buffer(1, 2):uint() % 0x800
    local segmented = math.floor(buffer(1, 2):uint() / 0x800) % 2 == 1
    tree:add(f.flag, buffer(0, 1))
    local format = tree:add(f.format, buffer(1, 2))
    format:add(f.type, buffer(1, 2))
    format:add(f.segmented, buffer(1, 2))
    format:add(f.length, buffer(1, 2))
    tree:add(f.destination, buffer(3, destination_size), destination)
    tree:add(f.source, buffer(3 + destination_size, source_size), source)

    local octet = buffer(at, 1)
    local kind, ns, nr, poll_final = read_control(octet:uint())
    local control = tree:add(f.control, octet)
    control:append_text(" " .. kind .. ", " .. KINDS[kind])
    control:add(f.kind, octet, kind)
    if ns then control:add(f.ns, octet, ns) end
    if nr then control:add(f.nr, octet, nr) end
    control:add(f.poll_final, octet, poll_final)

    local hcs_good = check(tree, pinfo, buffer, 1, at, f.hcs, f.hcs_good, e.hcs)
    local text = kind .. (ns and (" N(S)=" .. ns) or "") .. (nr and (" N(R)=" .. nr) or "")
        .. (poll_final and (from == "board" and " F" or from == "NIC" and " P" or " P/F") or "")
    if not hcs_good then text = text .. " HCS WRONG" end
    tree:append_text(", " .. text)
    pinfo.cols.info = text
    if not hcs_good then return buffer:len() end

    local info_at = at + 3
    local close = length + 1 -- where the closing flag is to be
    if close >= buffer:len() then
        tree:add_proto_expert_info(e.length, string.format("%d octets are missing", close + 1 - buffer:len()))
        pinfo.cols.info = text .. " (broken off)"
        return buffer:len()
    end
    if buffer(close, 1):uint() ~= 0x7E then
        tree:add_proto_expert_info(e.length, "no flag where the length says")
        pinfo.cols.info = text .. " (no closing flag)"
        return buffer:len()
    end
    if close - 2 <= info_at then
        tree:add(f.flag, buffer(close, 1))
        return buffer:len()
    end

    local info = buffer(info_at, close - 2 - info_at)
    local fcs_good = check(tree, pinfo, buffer, 1, close - 3, f.fcs, f.fcs_good, e.fcs)
    tree:add(f.flag, buffer(close, 1))
    if not fcs_good then
        pinfo.cols.info = text .. " FCS WRONG"
        tree:add(f.info, info)
    elseif kind == "SNRM" or kind == "UA" then
        show_parameters(tree, info)
    elseif (kind == "I" or kind == "UI") and not segmented then
        pinfo.cols.info = text .. " | "
        pinfo.cols.info:fence()
        tree:add(f.info, info)
        Dissector.get("coap"):call(info:tvb(), pinfo, root)
        pinfo.cols.protocol = "HDLC/CoAP"
    else
        pinfo.cols.info = text .. (segmented and " segment" or "")
        tree:add(f.info, info)
    end
    return buffer:len()
end

function hdlc.dissector(buffer, pinfo, root)
    return dissect(buffer, pinfo, root)
end

DissectorTable.get("wtap_encap"):add(wtap.USER0, hdlc)
