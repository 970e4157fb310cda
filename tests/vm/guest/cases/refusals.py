"""What goes wrong with keys and people: each is told apart, with its exit code and words, and costs no more than it must."""

from fstab import fstab
from rig import Terminal, alice, carol, case, expect, is_mounted, no_helper_is_left, output, set_pin
from vaults import copy_of, key, one_key

TOUCH_SECONDS = 30


def refused(code, *phrases, answers=("1234",), vault=None, person=alice, **more):
    done = person.passkeyfs("key", "test", vault or one_key(), answers=answers, **more)
    expect(done, code, *phrases)
    assert code == 0 or "passkeyfs: " in done.err, done
    no_helper_is_left()
    return done


@case
def no_key_at_all_is_said():
    refused(3, "no security key is attached", "Plug in a key that is enrolled")


@case
def a_device_that_is_not_there_or_is_no_key_is_said():
    done = alice.passkeyfs("key", "test", one_key(), "--authenticator", "hid:/dev/hidraw77")
    expect(done, 3, "there is no security key at /dev/hidraw77")
    done = alice.passkeyfs("key", "test", one_key(), "--authenticator", "hid:/dev/null")
    expect(done, 3, "/dev/null is not a FIDO2 security key")


@case
def a_wrong_pin_uses_one_try_and_says_how_many_are_left():
    with key("red") as red:
        done = refused(4, f"wrong PIN for {red.shown()}; tries left: 7", "Try again with the right PIN",
                       answers=["9999", "9999", "9999"])
        assert done.asked == 1 and red.touches() == 0, (done, red.events())
        assert red.tries_left() == 7
        refused(0, answers=["1234"])
        assert red.tries_left() == 8


@case
def a_wrong_pin_on_a_terminal_may_be_mended_at_once():
    with key("red") as red, Terminal(alice, "passkeyfs", "key", "test", one_key()) as terminal:
        terminal.expect(r"PIN of red")
        terminal.send("9999\n")
        terminal.expect(r"Wrong PIN.*7 tries left")
        terminal.send("1234\n")
        assert terminal.ended() == 0, terminal.text
        assert red.tries_left() == 8 and red.touches() == 1


@case
def a_pin_that_no_key_can_have_uses_no_try():
    with key("red") as red:
        refused(4, "a PIN has at least 4 characters", answers=["12"])
        refused(4, "a PIN has at least 4 characters", answers=["1234567890" * 7])
        assert red.tries_left() == 8


@case
def after_three_wrong_pins_the_key_wants_to_be_pulled_out_and_then_works():
    with key("red") as red:
        for left in (7, 6):
            refused(4, f"tries left: {left}", answers=["9999"])
        refused(4, "takes no more PINs until it is pulled out and put in again", answers=["9999"])
        refused(4, "takes no more PINs until it is pulled out and put in again", answers=["1234"])
        assert red.tries_left() == 5
    with key("red") as red:
        refused(0, answers=["1234"])
        assert red.tries_left() == 8


@case
def nobody_to_ask_is_said():
    with key("red") as red:
        refused(4, answers=[])
        done = refused(4, "no way to ask for a PIN", PASSKEYFS_ASKPASS="", PATH="/usr/local/bin")
        assert done.seconds < 10 and red.touches() == 0 and red.tries_left() == 8


@case
def a_touch_that_never_comes_ends_within_the_time_limit():
    with key("red", options=["--touch-seconds", "300"]) as red:
        red.script(touch="never")
        done = refused(5, f"{red.shown()} was not touched in time", "touch the key when it blinks")
        assert TOUCH_SECONDS - 5 < done.seconds < TOUCH_SECONDS + 15, done
        red.script()
        refused(0)


@case
def a_key_that_gives_up_waiting_itself_is_told_alike():
    with key("red", options=["--touch-seconds", "3"]) as red:
        red.script(touch="never")
        refused(5, f"{red.shown()} was not touched in time", "touch the key when it blinks")


@case
def a_denied_touch_is_said():
    with key("red") as red:
        red.script(touch="deny")
        refused(5, f"{red.shown()} was told to refuse", "Try again, and allow it on the key.")


@case
def a_key_pulled_out_while_it_blinks_is_said():
    with key("red") as red:
        shown = red.shown()
        red.script(touch="unplug")
        done = refused(3, f"{shown} was removed", "Plug the key in again")
        assert done.seconds < 20, done


@case
def a_key_pulled_out_before_the_pin_is_typed_is_said():
    with key("red") as red, Terminal(alice, "passkeyfs", "key", "test", one_key()) as terminal:
        shown = red.shown()
        terminal.expect(r"PIN of red")
        red.unplug()
        terminal.send("1234\n")
        code = terminal.ended(seconds=20)
        assert code == 3 and f"{shown} was removed" in terminal.text, (code, terminal.text)
    no_helper_is_left()


@case
def without_permission_the_device_and_the_udev_rule_are_named():
    vault = copy_of(one_key(), carol, "vault")
    with key("red") as red:
        refused(3, f"no permission to use {red.shown()}", "udev", vault=vault, person=carol)
        assert red.touches() == 0 and red.tries_left() == 8


@case
def a_key_that_is_not_enrolled_is_named():
    with key("stranger") as stranger:
        refused(3, "none of the keys present is enrolled in this vault", stranger.shown(), "passkeyfs key list",
                answers=["2468"])
        assert stranger.touches() == 0, stranger.events()


@case
def a_key_that_was_reset_is_not_enrolled():
    with key("reset", fresh=True) as other:
        vault = alice.path("reset-vault")
        expect(alice.passkeyfs("init", vault, "--no-recovery"), 0)
        expect(alice.passkeyfs("key", "test", vault), 0)
        other.unplug()
        other.plug()
        output("fido2-token", "-R", other.device)
        refused(3, "none of the keys present is enrolled in this vault", vault=vault, answers=())


@case
def a_key_that_got_a_pin_after_it_was_enrolled_opens_its_slot_still():
    with key("later", fresh=True) as later:
        vault = alice.path("later-vault")
        expect(alice.passkeyfs("init", vault, "--no-recovery"), 0)
        set_pin(later.device, "1357")
        # The slot is one without user verification: no PIN is asked for, and the key answers as it did.
        expect(alice.passkeyfs("key", "test", vault), 0)


@case
def a_key_without_hmac_secret_is_said():
    with key("plain", options=["--no-hmac-secret"]) as plain:
        refused(1, f"{plain.shown()} does not know hmac-secret", "hmac-secret", answers=())


@case
def mount_answers_in_its_own_numbers_with_the_same_words():
    vault, files = one_key(), alice.folder("files")
    fstab(f"{vault} {files} passkeyfs noauto,user 0 0")
    with key("red") as red:
        red.script(touch="deny")
        done = alice.run("mount", files, answers=["1234"])
        expect(done, 32, f"{red.shown()} was told to refuse", "Try again, and allow it on the key.")
        expect(alice.run("mount", files, answers=["9999"]), 32, "wrong PIN for", "tries left: 7")
    expect(alice.run("mount", files), 32, "no security key is attached")
    assert not is_mounted(files)
    fstab()
    with key("red"):
        refused(0)
