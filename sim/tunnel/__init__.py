"""The tunnel of remote sessions in virtual time, under the same conditions as OpenVPN's.

The box's `EmulTunnel` connects over the simulated network, through the site's proxy if there is one, to the data
center's own listener (`datacenter.tunnel.listener`), behind which the `EmulEndpoint` of each session waits. Packets
pass while all four conditions hold:

1. The key of the session signs the handshake, once.
2. The certificate is issued by the authority of this session, for this key, and valid by the verifier's clock.
3. The first packet ends with the session's tls-crypt-v2 key, which the listener expects, once.
4. The firewall of the box has the session's element (`EmulPath`), which expires by itself.

All messages of a handshake have fixed lengths, because a lab's run must not depend on random keys.
"""
