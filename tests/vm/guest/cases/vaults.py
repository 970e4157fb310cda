"""The vault that most cases unlock: alice's, with three keys enrolled. Made once, by the first case that needs it.

    red, green   PIN 1234 and 5678
    blue         no PIN
    stranger     PIN 2468, enrolled nowhere
"""

import contextlib
import functools
import shutil

from rig import Key, alice, expect, output

PINS = {"red": "1234", "green": "5678", "blue": None, "stranger": "2468", "conforming": "1234",
        "amber": "1122", "drawer": "3344", "bobs": "5566"}


def once(make):
    """Makes it for the first case that asks; where that failed, the others fail at once with the same words."""
    made = []

    @functools.wraps(make)
    def get():
        if not made:
            try:
                made.append((make(), None))
            except Exception as error:
                made.append((None, error))
        vault, error = made[0]
        if error:
            raise AssertionError(f"{make.__name__} could not be made: {error}")
        return vault
    return get


def key(name, options=(), fresh=False):
    if name in ("red", "green", "blue"):
        for vault in (one_key, enrolled):  # now, for they want these keys for themselves
            with contextlib.suppress(AssertionError):  # told by the case that asks for the vault
                vault()
    return Key(name, pin=PINS.get(name), options=options, fresh=fresh)


def _enrolled_key(name):
    return Key(name, pin=PINS[name])


@once
def enrolled():
    """The vault's folder."""
    vault = alice.path("vault")
    with _enrolled_key("red") as red:
        expect(alice.passkeyfs("init", vault, "--label", "red", "--no-recovery", answers=["1234"]), 0)
        for name in ("green", "blue"):
            with _enrolled_key(name) as other:
                answers = ["1234"] + ([PINS[name]] if PINS[name] else [])
                done = alice.passkeyfs("key", "add", vault, "--label", name, "--with", f"hid:{red.device}",
                                       "--authenticator", f"hid:{other.device}", answers=answers)
                expect(done, 0)
    return vault


@once
def one_key():
    """A vault with no key but red: what needs no second one works where `key add` fails."""
    vault = alice.path("one-key")
    with _enrolled_key("red"):
        expect(alice.passkeyfs("init", vault, "--label", "red", "--no-recovery", answers=["1234"]), 0)
    return vault


def copy_of(vault, person, *parts):
    """What a sync client would have carried to that person's machine: the folder, and nothing else."""
    target = person.path(*parts)
    shutil.rmtree(target, ignore_errors=True)
    person.folder(*parts[:-1])
    shutil.copytree(vault, target)
    output("chown", "-R", f"{person.uid}:{person.gid}", target)
    return target
