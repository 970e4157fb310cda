"""`passkeyfs doctor` finds what is wrong with this machine and its keys."""

import json
import os

from rig import alice, carol, case, expect
from vaults import key


def findings(person, code):
    done = person.passkeyfs("doctor", "--json")
    expect(done, code)
    return json.loads(done.out)


def grades(found, about):
    return [finding["grade"] for finding in found if finding["about"] == about]


@case
def doctor_finds_nothing_wrong_for_a_user_with_a_good_key():
    with key("red"):
        found = findings(alice, 0)
        assert grades(found, "keys") == ["ok"], found
        assert not [finding for finding in found if finding["grade"] == "problem"], found
        expect(alice.passkeyfs("doctor"), 0, "red")


@case
def doctor_names_the_device_and_the_rule_to_who_may_not_use_the_key():
    with key("red") as red:
        found = findings(carol, 1)
        problem = next(finding for finding in found if finding["grade"] == "problem")
        assert problem["about"] == "keys" and red.device in problem["found"], problem
        assert "passkeyfs.rules" in problem["next"] and "plugdev" in problem["next"], problem


@case
def doctor_says_which_key_has_no_pin_and_which_no_hmac_secret():
    with key("blue") as blue:
        found = [finding for finding in findings(alice, 0) if finding["about"] == "keys"]
        assert "PIN" in found[0]["found"] and found[0]["grade"] == "warning", (blue.shown(), found)
    with key("plain", options=["--no-hmac-secret"]):
        found = [finding for finding in findings(alice, 1) if finding["about"] == "keys"]
        assert "hmac-secret" in found[0]["found"] and found[0]["grade"] == "problem", found


@case
def doctor_misses_fusermount3_and_the_device_of_fuse():
    for path, about in (("/usr/bin/fusermount3", "fusermount3"), ("/dev/fuse", "fuse")):
        os.rename(path, path + ".away")
        try:
            assert "problem" in grades(findings(alice, 1), about), about
        finally:
            os.rename(path + ".away", path)
