"""What link types are called (tcpdump.org/linktypes.html), be they read or not.

Owns: the names. Must not know how a frame is read.
"""

from __future__ import annotations

from typing import Final

_OWN: Final = range(147, 163)  # LINKTYPE_USER0 to LINKTYPE_USER15
_NAMES: Final = {
    0: "BSD loopback",
    1: "Ethernet",
    3: "AX.25",
    6: "Token Ring",
    7: "ARCNET of BSD",
    8: "SLIP",
    9: "PPP",
    10: "FDDI",
    11: "ATM",
    12: "raw IP",
    14: "raw IP",
    50: "PPP in HDLC framing",
    51: "PPPoE",
    99: "Symantec firewall",
    100: "ATM",
    101: "raw IP",
    104: "Cisco HDLC",
    105: "IEEE 802.11",
    107: "Frame Relay",
    108: "OpenBSD loopback",
    109: "OpenBSD encapsulated",
    113: "Linux cooked",
    114: "LocalTalk",
    117: "OpenBSD pflog",
    119: "IEEE 802.11 with Prism",
    122: "IP over Fibre Channel",
    123: "SunATM",
    127: "IEEE 802.11 with radiotap",
    129: "ARCNET",
    138: "IP over IEEE 1394",
    139: "SS7",
    140: "SS7",
    141: "SS7",
    142: "SS7",
    143: "DOCSIS",
    144: "IrDA",
    163: "IEEE 802.11 with AVS",
    165: "BACnet",
    166: "PPP of pppd",
    177: "LAPD",
    187: "Bluetooth HCI",
    189: "USB",
    190: "CAN",
    192: "PPI",
    195: "IEEE 802.15.4",
    197: "Endace ERF",
    201: "Bluetooth HCI",
    202: "AX.25",
    203: "LAPD",
    204: "PPP with direction",
    209: "I2C",
    212: "LIN",
    215: "IEEE 802.15.4",
    220: "USB",
    224: "Fibre Channel",
    225: "Fibre Channel",
    226: "Solaris IPNET",
    227: "CAN",
    228: "raw IPv4",
    229: "raw IPv6",
    230: "IEEE 802.15.4",
    231: "D-Bus",
    239: "NFLOG",
    240: "netANALYZER",
    242: "IP over InfiniBand",
    243: "MPEG-2",
    245: "NFC",
    247: "InfiniBand",
    248: "SCTP",
    249: "USB",
    251: "Bluetooth LE",
    252: "Wireshark upper PDU",
    253: "netlink",
    254: "Bluetooth, Linux",
    255: "Bluetooth",
    256: "Bluetooth LE",
    258: "macOS pktap",
    259: "EPON",
    266: "USB",
    270: "LoRa",
    271: "vsock",
    272: "Bluetooth LE",
    273: "DOCSIS",
    274: "IEEE 802.3br",
    276: "Linux cooked, version 2",
    278: "OpenFlow",
    280: "VPP",
    281: "Broadcom switch tag",
    282: "Broadcom switch tag",
    283: "IEEE 802.15.4",
    284: "Marvell switch tag",
    285: "Marvell switch tag",
    287: "Z-Wave",
    288: "USB",
    290: "ETW",
}


def link_name(link: int) -> str:
    """What a link type is called; its number where it has no name here."""
    return _NAMES.get(link, f"link type {link}")


def described(link: int) -> str:
    """Its number and, where it has one, its name."""
    name = "somebody's own" if link in _OWN else _NAMES.get(link, "unknown")
    return f"link type {link} ({name})"
