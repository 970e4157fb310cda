"""The conformance suite that the software authenticator passes in `cargo test`, against keys over hidraw."""

from rig import alice, case, expect
from vaults import key


def conforms(name, answers):
    with key(name) as plugged:
        done = alice.passkeyfs("debug", "conformance", "--authenticator", f"hid:{plugged.device}", answers=answers, seconds=300)
        expect(done, 0)
        assert "FAILED" not in done.out and done.out.count("ok  ") >= 5, done
        return done


@case
def a_key_with_a_pin_passes_the_conformance_suite_over_hidraw():
    conforms("conforming", ["1234"] * 40)


@case
def a_key_without_a_pin_passes_the_conformance_suite_over_hidraw():
    conforms("conforming-without-pin", [])
