"""Constructs of nft(8) and the kernel that another program could add to the firewall's table.

Each is a command for nft(8) that the kernel accepts beside the clinic's policy, unless it was built without the
feature.
"""

from __future__ import annotations

from typing import Final

_T: Final = "inet rap"

SETS: Final = {
    "hardware addresses": "type ether_addr; flags interval; elements = { 00:00:00:00:00:01-00:00:00:00:00:05 };",
    "IPv4 ranges": "type ipv4_addr; flags interval; auto-merge; elements = { 192.0.2.1-192.0.2.7 };",
    "IPv6 ranges": "type ipv6_addr; flags interval; elements = { 2001:db8::1-2001:db8::7 };",
    "IPv6 mapped": "type ipv6_addr; elements = { ::ffff:192.0.2.1 };",
    "port ranges": "type inet_service; flags interval; elements = { 1-1023, 8080 };",
    "protocols": "type inet_proto; elements = { tcp, 253 };",
    "marks": "type mark; flags interval; elements = { 0x1-0xff };",
    "interface patterns": 'type ifname; flags interval; elements = { "eth*" };',
    "interface numbers": "type iface_index; elements = { lo };",
    "users": "typeof meta skuid; elements = { 0 };",
    "cgroups": "typeof socket cgroupv2 level 1;",
    "connection states": "typeof ct state; elements = { new };",
    "connection marks": "typeof ct mark; elements = { 1 };",
    "times": 'typeof meta hour; flags interval; elements = { "01:00"-"02:00" };',
    "days": "typeof meta day; elements = { Monday };",
    "ICMP types": "type icmp_type; elements = { echo-request };",
    "ICMPv6 types": "type icmpv6_type; elements = { echo-request };",
    "ether types": "type ether_type; elements = { ip };",
    "header bits": "typeof ip dscp; elements = { cs1 };",
    "raw payload": "typeof @nh,0,4; elements = { 4 };",
    "TCP options": "typeof tcp option maxseg size; elements = { 1400 };",
    "VLANs": "typeof vlan id; elements = { 5 };",
    "concatenated ranges": "type ipv4_addr . mark; flags interval; elements = { 192.0.2.0/24 . 1-9 };",
    "concatenated hardware": "type ether_addr . ipv4_addr; elements = { 00:00:00:00:00:01 . 192.0.2.1 };",
    "timeouts": "type ipv4_addr; timeout 1h; gc-interval 10m; flags timeout; elements = { 192.0.2.1 timeout 5m };",
    "counting elements": "type ipv4_addr; counter; elements = { 192.0.2.1 };",
    "limiting elements": "type ipv4_addr; limit rate 1/second; elements = { 192.0.2.1 };",
    "dynamic": "type ipv4_addr; size 100; flags dynamic; ct count over 3;",
    "constant": "type ipv4_addr; flags constant; elements = { 192.0.2.1 };",
    "comments": 'type ipv4_addr; comment "hello"; elements = { 192.0.2.1 comment "there" };',
    "memory policy": "type ipv4_addr; policy memory; size 65535;",
}
MAPS: Final = {
    "verdicts": "type ipv4_addr : verdict; elements = { 192.0.2.1 : accept };",
    "jumps": "type ifname : verdict; elements = { eth0 : goto outside };",
    "verdicts of ranges": "type ipv4_addr : verdict; flags interval; elements = { 192.0.2.0/24 : drop };",
    "addresses": "type ipv4_addr : ipv4_addr; elements = { 192.0.2.1 : 192.0.2.2 };",
    "addresses and ports": "type ipv4_addr : ipv4_addr . inet_service; elements = { 192.0.2.1 : 192.0.2.2 . 80 };",
    "address intervals": "type ipv4_addr : interval ipv4_addr; elements = { 192.0.2.1 : 192.0.2.2-192.0.2.4 };",
    "marks": "type ipv4_addr : mark; elements = { 192.0.2.1 : 1 };",
    "counters": "type ipv4_addr : counter; elements = { 192.0.2.1 : outside };",
    "classes": "type ipv4_addr : classid; elements = { 192.0.2.1 : 1:2 };",
}
OBJECTS: Final = {
    "counter": "counter {T} other",
    "counter with comment": 'counter {T} other { comment "x"; }',
    "quota": "quota {T} other { over 1 mbytes }",
    "limit": "limit {T} other { rate 1/second }",
    "helper": 'ct helper {T} other { type "ftp" protocol tcp; }',
    "timeout": "ct timeout {T} other { protocol tcp; policy = { established : 100 }; }",
    "expectation": "ct expectation {T} other { protocol tcp; dport 1; timeout 1m; size 1; }",
    "secmark": 'secmark {T} other { "system_u:object_r:x:s0" }',
    "synproxy": "synproxy {T} other { mss 1460; wscale 7; timestamp sack-perm; }",
    "flowtable": "flowtable {T} other { hook ingress priority 0; devices = { lo }; }",
    "chain": "chain {T} other",
    "chain with comment": 'chain {T} other { comment "x"; }',
    "base chain": "chain {T} other { type filter hook input priority -400; policy accept; }",
    "nat chain": "chain {T} other { type nat hook prerouting priority dstnat; }",
    "route chain": "chain {T} other { type route hook output priority mangle; }",
    "ingress chain": "chain {T} other { type filter hook ingress device lo priority 0; }",
    "accepting policy": "chain {T} forward { policy accept; }",
    "sleeping table": "table {T} { flags dormant; }",
}
RULES: Final = {
    "accept": "accept",
    "nothing but a comment": 'counter comment "just looking"',
    "counter": "counter accept",
    "named quota": "quota over 1 mbytes drop",
    "limit of bytes": "limit rate 10 kbytes/second accept",
    "mark": "meta mark set 1",
    "mark by hash": "meta mark set jhash ip saddr mod 16",
    "mark by number": "meta mark set numgen inc mod 4",
    "symmetric hash": "meta mark set symhash mod 4",
    "connection mark": "ct mark set meta mark",
    "connection event": "ct event set new",
    "connection label": "ct label 1 accept",
    "connection count": "ct count 5 accept",
    "connection bytes": "ct original bytes > 100 accept",
    "connection time": "ct expiration 1m accept",
    "helper name": 'ct helper "ftp" accept',
    "no tracking": "notrack",
    "log": 'log prefix "x" level info flags all',
    "audit log": "log level audit",
    "queue": "queue to 3",
    "reject": "reject with tcp reset",
    "reject with a reason": "reject with icmpx no-route",
    "duplicate": "ip daddr 192.0.2.1 dup to 192.0.2.2",
    "set address": "ip daddr set 192.0.2.2",
    "set time to live": "ip ttl set 3",
    "set option": "tcp flags syn tcp option maxseg size set 1200",
    "reset option": "tcp flags syn reset tcp option sack-perm",
    "synproxy": "tcp flags syn synproxy mss 1460 wscale 7",
    "transparent proxy": "meta l4proto tcp tproxy to :1234",
    "socket": "socket transparent 1 accept",
    "socket cgroup": 'socket cgroupv2 level 1 "user.slice" accept',
    "fib": "fib saddr . iif oif missing drop",
    "fib type": "fib daddr type local accept",
    "operating system": 'osf name "Linux" accept',
    "route": "rt classid 5 accept",
    "route mtu": "tcp flags syn tcp option maxseg size set rt mtu",
    "ipsec": "ipsec in reqid 1 accept",
    "tunnel key": "meta l4proto udp @th,64,8 1 accept",
    "bits": "ip dscp and 0x3f == 3 accept",
    "inner bits": "tcp flags & (fin | syn | rst) == syn accept",
    "byte order": "meta length 1-100 accept",
    "raw": "@nh,64,16 0x1 accept",
    "raw transport": "@th,0,32 1 accept",
    "extension header": "exthdr hbh exists accept",
    "fragment": "frag id 1 accept",
    "routing header": "rt0 addr[1] 2001:db8::1 accept",
    "IP option": "ip option rr exists accept",
    "SCTP chunk": "sctp chunk init exists accept",
    "priority": "meta priority set 0x10002",
    "class": "meta rtclassid 3 accept",
    "random": "meta random 5 accept",
    "time": 'meta hour "01:00"-"02:00" accept',
    "cpu": "meta cpu 0 accept",
    "user": "meta skuid 0 accept",
    "group of interfaces": "iifgroup 3 accept",
    "kind of interface": 'iifkind "vrf" accept',
    "interface number": "iif lo accept",
    "bridge port": 'meta ibrname "br0" accept',
    "packet type": "meta pkttype set host",
    "tracing": "meta nftrace set 1",
    "anonymous verdict map": "ip saddr vmap { 192.0.2.1 : accept, 192.0.2.2 : drop }",
    "anonymous map": "meta mark set ip saddr map { 192.0.2.1 : 1 }",
    "map of intervals": "meta mark set tcp dport map { 1-9 : 1, 10-19 : 2 }",
    "anonymous set": "ip saddr . tcp dport { 192.0.2.1 . 80, 192.0.2.2 . 81 } accept",
    "meter": "meter other { ip saddr limit rate 1/second } accept",
    "counting meter": "meter other size 10 { ip saddr ct count over 3 } drop",
    "update a set": "update @sessions4 { ip saddr . iifname . ip daddr . meta l4proto . th dport }",
    "named counter": 'counter name "outside"',
    "long": "ip saddr { " + ", ".join(f"10.{n // 250}.{n % 250}.1" for n in range(3000)) + " } accept",
    "comment": 'accept comment "' + "x" * 127 + '"',
    "last": "last",
    "goto": "goto outside",
    "jump": "jump outside",
}


def commands() -> dict[str, str]:
    """Return every construct by name, as a command for nft(8)."""
    constructs = {f"set: {name}": f"add set {_T} other {{ {body} }}" for name, body in SETS.items()}
    constructs |= {f"map: {name}": f"add map {_T} other {{ {body} }}" for name, body in MAPS.items()}
    constructs |= {f"object: {name}": "add " + body.replace("{T}", _T) for name, body in OBJECTS.items()}
    for chain in ("input", "forward"):
        constructs |= {
            f"rule in {chain}: {name}": f"insert rule {_T} {chain} {body}" for name, body in RULES.items()
        }
    own = ("ports", "services4", "authorized4", "sources4", "inside6")
    constructs |= {f"emptied: {name}": f"flush set {_T} {name}" for name in own}
    constructs |= {
        "retyped set": f"flush chain {_T} output; delete set {_T} authorized4; "
        f"add set {_T} authorized4 {{ type ether_addr; elements = {{ 00:00:00:00:00:01 }}; }}",
        "retyped sessions": f"flush chain {_T} forward; delete set {_T} sessions4; "
        f"add set {_T} sessions4 {{ type mark; flags interval; elements = {{ 1-5 }}; }}",
        "another limit of connections": f"add element {_T} connections {{ enp2s0 ct count over 60000 }}",
        "another limit of the log": f"add element {_T} logged {{ enp2s0 limit rate 60000/second }}",
        "another limit in the rule": f"flush chain {_T} input; delete set {_T} connections; "
        f"add set {_T} connections {{ type ifname; size 128; flags dynamic; }}; "
        f"insert rule {_T} input ct state new add @connections {{ iifname ct count over 60000 }} drop",
        "commented address": f'add element {_T} authorized4 {{ 198.51.100.66 . tcp . 22 comment "x" }}',
        "exchanged address": f"add element {_T} authorized4 {{ 198.51.100.66 . tcp . 443 }}; "
        f"delete element {_T} authorized4 {{ 203.0.113.5 . tcp . 443 }}",
        "commented element": f'add element {_T} ports {{ "other" comment "x" }}',
        "deleted": f"delete table {_T}",
        "everything flushed": "flush ruleset",
        "table with comment": f'delete table {_T}; add table {_T} {{ comment "x"; }}',
        "counter with another's name": f"flush ruleset; add table {_T}; add quota {_T} outside {{ over 1 mbytes }}",
        "renamed chain": f"rename chain {_T} tunnel other",
        "thousand rules": "; ".join(
            f"add rule {_T} input ip saddr 10.0.{n // 250}.{n % 250} accept" for n in range(1000)
        ),
    }
    return constructs
