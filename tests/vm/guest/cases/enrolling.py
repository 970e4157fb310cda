"""Making a vault with a key, and adding others."""

import json

from rig import alice, bob, case, expect, no_helper_is_left
from vaults import copy_of, enrolled, key


@case
def a_vault_is_made_with_the_attached_key_and_its_pin_is_asked_once():
    with key("red") as red:
        done = alice.passkeyfs("init", alice.path("first"), "--no-recovery", answers=["1234"])
        expect(done, 0)
        assert done.asked == 1, done
        # One to make the credential, two for the assertions that are compared.
        assert red.touches() == 3, red.events()
        done = alice.passkeyfs("key", "test", alice.path("first"), answers=["1234"])
        expect(done, 0)
    no_helper_is_left()


@case
def a_second_key_and_one_without_pin_are_added_and_listed_with_their_labels():
    slots = json.loads(alice.must("passkeyfs", "key", "list", enrolled(), "--json").out)
    assert sorted(slot["label"] for slot in slots) == ["blue", "green", "red"], slots
    assert all(slot["hardware"] for slot in slots), slots
    verified = {slot["label"]: slot["user_verified"] for slot in slots}
    assert verified == {"red": True, "green": True, "blue": False}, verified


@case
def a_key_that_is_enrolled_already_is_not_enrolled_twice():
    with key("red") as red:
        device = f"hid:{red.device}"
        done = alice.passkeyfs("key", "add", enrolled(), "--authenticator", device, "--with", device,
                               answers=["1234", "1234"])
        expect(done, 1, "enrolled")
        expect(alice.passkeyfs("key", "test", enrolled(), answers=["1234"]), 0)


@case
def a_key_with_a_pin_but_without_hmac_secret_is_refused_by_name_and_nothing_is_made():
    with key("plain", options=["--no-hmac-secret"]) as plain:
        done = alice.passkeyfs("init", alice.path("none"), "--no-recovery")
        expect(done, 1, f"{plain.shown()} does not know hmac-secret", "Use a FIDO2 key with the hmac-secret extension")
        done = alice.passkeyfs("key", "test", alice.path("none"))
        expect(done, 6)


@case
def a_removed_key_opens_nothing_new_after_the_rotation():
    vault = copy_of(enrolled(), bob, "rotated")  # another person's: alice's state knows nothing of it
    with key("red"):
        expect(bob.passkeyfs("key", "remove", vault, "green", "--rotate", answers=["1234"]), 0)
        expect(bob.passkeyfs("key", "test", vault, answers=["1234"]), 0)
    with key("blue"):  # was not there at the rotation
        expect(bob.passkeyfs("key", "test", vault), 0)
    with key("green"):
        expect(bob.passkeyfs("key", "test", vault, answers=["5678"]), 3)
