"""The rig: what the other cases stand on, seen with libfido2's programs and with raw packets, which know nothing of passkeyfs."""

import base64
import os
import select
import subprocess
import time

from rig import Key, case, output, set_pin

INIT, CBOR, KEEPALIVE = 0x86, 0x90, 0xBB
BROADCAST = b"\xff\xff\xff\xff"
NONCE = b"12345678"


@case
def other_programs_see_a_virtual_key_with_hmac_secret_and_a_pin():
    with Key("rig", pin="1234", fresh=True) as key:
        assert f"{key.device}: " in output("fido2-token", "-L")
        told = output("fido2-token", "-I", key.device)
        assert "hmac-secret" in told and "clientPin" in told and "noclientPin" not in told, told
        assert key.tries_left() == 8


@case
def a_virtual_key_without_hmac_secret_says_so():
    with Key("plain", fresh=True, options=["--no-hmac-secret"]) as key:
        told = output("fido2-token", "-I", key.device)
        assert "hmac-secret" not in told and "noclientPin" in told, told
        set_pin(key.device, "4321")


def fido2(*arguments, lines):
    done = subprocess.run(arguments, input="".join(line + "\n" for line in lines).encode(), stdout=subprocess.PIPE, timeout=30, check=True)
    return done.stdout.decode().splitlines()


@case
def other_programs_get_the_same_secret_from_a_virtual_key_that_was_pulled_out_in_between():
    random = lambda: base64.b64encode(os.urandom(32)).decode()
    salt, secrets = random(), []
    with Key("secret", fresh=True) as key:
        made = fido2("fido2-cred", "-M", "-h", key.device, lines=[random(), "rig.test", "person", random()])
        assert key.touches() == 1, key.events()
    for _ in range(2):
        with Key("secret") as key:
            key.script(touch="after 500")
            got = fido2("fido2-assert", "-G", "-h", key.device, lines=[random(), "rig.test", made[4], salt])
            assert key.events().count("touched") == 1, key.events()
            secrets.append(got[-1])
    assert secrets[0] == secrets[1] and len(base64.b64decode(secrets[0])) == 32, secrets


class Host:
    """The host's end of CTAPHID, packet by packet."""

    def __init__(self, key):
        self.file = os.open(key.device, os.O_RDWR | os.O_NONBLOCK)

    def ask(self, channel, command, data):
        """Sends a message of one packet, and gives back what comes within a moment."""
        while self.packets(0):
            pass
        packet = channel + bytes([command]) + len(data).to_bytes(2, "big") + data
        os.write(self.file, b"\0" + packet.ljust(64, b"\0"))
        return self.packets(0.7)

    def packets(self, seconds):
        """Up to 200 packets."""
        found, end = [], time.monotonic() + seconds
        while len(found) < 200 and select.select([self.file], [], [], max(0, end - time.monotonic()))[0]:
            found.append(os.read(self.file, 64))
        return found

    def channel(self):
        reply = next(packet for packet in self.ask(BROADCAST, INIT, NONCE) if packet[7:15] == NONCE)
        return reply[15:19]

    def info(self, channel):
        return self.ask(channel, CBOR, b"\x04")


def behaves(mode, is_right):
    with Key("hostile") as key:
        host = Host(key)
        channel = host.channel()
        key.script(hostile=f"{mode} info")
        packets = host.info(channel)
        assert is_right(packets, channel), f"{mode}: {[packet.hex() for packet in packets[:5]]}"
        os.close(host.file)


@case
def the_hostile_modes_of_a_virtual_key_are_what_they_are_called():
    with Key("hostile", fresh=True) as key:
        host = Host(key)
        channel = host.channel()
        reply = next(packet for packet in host.info(channel) if packet[4] == CBOR)
        assert reply[:4] == channel and reply[7] == 0, reply.hex()
        key.script(hostile="silent init")
        assert host.ask(BROADCAST, INIT, NONCE) == []
        os.close(host.file)
    behaves("silent", lambda packets, channel: packets == [])
    behaves("flood", lambda packets, channel: len(packets) >= 100 and {packet[:5] for packet in packets} == {channel + bytes([KEEPALIVE])})
    behaves("babble", lambda packets, channel: len({packet[:4] for packet in packets}) >= 100)
    behaves("stranger", lambda packets, channel: len(packets) >= 100 and all(packet[:4] != channel for packet in packets))
    behaves("short", lambda packets, channel: [packet[:7] for packet in packets] == [channel + bytes([CBOR, 0, 0])])
    behaves("cut", lambda packets, channel: [packet[4:11].hex() for packet in packets] == ["90000400a50158"])
    behaves("endless", lambda packets, channel: packets[0][4:7].hex() == "90ffff" and all(packet[4] < 0x80 for packet in packets[1:])
            and len(packets) >= 100)
