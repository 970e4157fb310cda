"""Keys that are broken or malicious: an error within the time limit, no process left over, and nothing else is hurt.

The modes and stages are those of key/src/hostile.rs. All the while a vault of alice's is mounted.
"""

import contextlib

from rig import alice, case, expect, is_mounted, no_helper_is_left, processes
from vaults import enrolled, key, one_key

# An answer may take 5 s, one retry is allowed, and the guest may be slow.
SECONDS_MAX = 25
NO_ANSWER, NONSENSE = "does not answer", "gave an answer that makes no sense"
# What comes on another channel is what another program's traffic looks like, too.
NOISE = [NO_ANSWER, NONSENSE, "is busy: another program talks to it"]


@contextlib.contextmanager
def a_mount_beside():
    """A mounted vault whose daemon must be the same one, and at work, at the end."""
    vault, files, software = alice.path("beside"), alice.folder("beside-files"), f"software:{alice.path('beside.key')}"
    alice.forget_all("beside")
    alice.forget_all("beside.key")
    alice.must("passkeyfs", "init", vault, "--authenticator", software, "--no-recovery")
    alice.must("passkeyfs", "mount", vault, files, "--authenticator", software)
    daemon = processes("passkeyfs", files)
    alice.must("sh", "-c", f"echo steady >{files}/word")
    try:
        yield
        assert processes("passkeyfs", files) == daemon, "the daemon is another one"
        expect(alice.run("cat", f"{files}/word"), 0, "steady")
    finally:
        alice.passkeyfs("umount", files)
    assert not is_mounted(files)


def ends_in_time(stage, modes):
    """Each mode at this stage, by a key that is enrolled and otherwise in order."""
    wrong = []
    with a_mount_beside():
        for mode, words in modes.items():
            with key("red") as red:
                red.script(hostile=f"{mode} {stage}")
                done = alice.passkeyfs("key", "test", one_key(), answers=["1234"], seconds=120)
                assert f"hostile: {mode}" in red.events(), f"{mode}: the stage was not reached: {red.events()} {done}"
                if done.code != 1 or not any(word in done.err for word in words) or red.shown() not in done.err:
                    wrong.append(f"{mode}: expected exit 1 and one of {words}: {done}")
                if done.seconds > SECONDS_MAX:
                    wrong.append(f"{mode}: too slow: {done}")
                no_helper_is_left()
    assert not wrong, "\n".join(wrong)
    with key("red"):
        expect(alice.passkeyfs("key", "test", one_key(), answers=["1234"]), 0)


@case
def a_key_that_is_hostile_from_the_first_packet_is_told_within_the_time_limit():
    ends_in_time("init", {"silent": [NO_ANSWER], "flood": NOISE, "babble": NOISE, "stranger": NOISE, "short": NOISE})


@case
def a_key_that_is_hostile_when_it_describes_itself_is_told_within_the_time_limit():
    ends_in_time("info", {"silent": [NO_ANSWER], "endless": NOISE, "short": [NONSENSE], "cut": [NONSENSE]})


@case
def a_key_that_is_hostile_at_the_assertion_is_told_within_the_time_limit():
    ends_in_time("assert", {"silent": [NO_ANSWER], "flood": NOISE, "babble": NOISE, "stranger": NOISE, "short": [NONSENSE],
                            "cut": [NONSENSE], "endless": NOISE})


@case
def a_key_that_is_hostile_when_it_is_asked_about_its_pin_is_told_within_the_time_limit_and_costs_no_try():
    ends_in_time("pin", {"silent": [NO_ANSWER], "flood": NOISE, "cut": [NONSENSE]})
    with key("red") as red:
        assert red.tries_left() == 8


@case
def a_wrong_pin_whose_answer_is_lost_is_not_sent_again():
    with key("red") as red:
        red.script(hostile="lost token")
        done = alice.passkeyfs("key", "test", one_key(), answers=["9999"])
        assert "hostile: lost" in red.events(), red.events()
        expect(done, 4, "wrong PIN for", "tries left: 7")
        red.script()
        assert red.tries_left() == 7
        expect(alice.passkeyfs("key", "test", one_key(), answers=["1234"]), 0)
        assert red.tries_left() == 8


@case
def a_key_that_goes_away_in_the_middle_of_its_answer_was_removed():
    for stage in ("info", "assert"):
        with key("red") as red:
            red.script(hostile=f"gone {stage}")
            done = alice.passkeyfs("key", "test", one_key(), answers=["1234"])
            assert done.code == 3 and "removed" in done.err and done.seconds < SECONDS_MAX, done
            no_helper_is_left()


@case
def a_broken_key_beside_a_good_one_does_not_keep_that_from_unlocking():
    with key("stranger") as broken, key("red"):
        broken.script(hostile="silent init")
        done = alice.passkeyfs("key", "test", enrolled(), answers=["1234"])
        expect(done, 0)
        assert done.seconds < SECONDS_MAX, done
