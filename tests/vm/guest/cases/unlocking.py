"""What must go well: each key alone, several together, slow people, and several commands at once."""

import os
import signal

from fstab import fstab
from rig import Terminal, alice, case, expect, is_mounted, no_helper_is_left, wait_until
from vaults import PINS, enrolled, key, one_key


def unlocks_with_one_pin_and_one_touch(name):
    with key(name) as plugged:
        done = alice.passkeyfs("key", "test", enrolled(), answers=[PINS[name]])
        expect(done, 0)
        assert done.asked == 1 and name in done.questions[0], done.questions
        assert plugged.touches() == 1, plugged.events()
        assert plugged.tries_left() == 8
    no_helper_is_left()


@case
def with_three_keys_enrolled_and_the_first_attached_there_is_one_pin_prompt_and_one_touch():
    unlocks_with_one_pin_and_one_touch("red")


@case
def with_three_keys_enrolled_and_the_second_attached_there_is_one_pin_prompt_and_one_touch():
    unlocks_with_one_pin_and_one_touch("green")


@case
def a_key_without_pin_is_asked_for_none_and_wants_one_touch():
    with key("blue") as blue:
        done = alice.passkeyfs("key", "test", enrolled())
        expect(done, 0)
        assert done.asked == 0 and blue.touches() == 1, (done.questions, blue.events())


@case
def with_two_keys_attached_the_one_that_is_touched_is_asked_for_its_pin():
    with key("red") as red, key("green") as green:
        red.script(touch="never")
        done = alice.passkeyfs("key", "test", enrolled(), answers=["5678"])
        expect(done, 0)
        assert done.asked == 1 and "green" in done.questions[0], done.questions
        # One touch to choose it, one for the assertion.
        assert green.touches() == 2 and "touched" not in red.events(), (green.events(), red.events())


@case
def a_device_that_is_named_is_used_though_another_is_attached():
    with key("red") as red, key("green") as green:
        done = alice.passkeyfs("key", "test", enrolled(), "--authenticator", f"hid:{green.device}", answers=["5678"])
        expect(done, 0)
        assert done.asked == 1 and green.touches() == 1 and red.touches() == 0


@case
def a_user_mounts_what_fstab_says_with_one_pin_prompt_and_one_touch():
    vault, files = one_key(), alice.folder("files")
    fstab(f"{vault} {files} passkeyfs noauto,user 0 0")
    with key("red") as red:
        done = alice.run("mount", files, answers=["1234"])
        expect(done, 0)
        assert done.asked == 1 and red.touches() == 1, (done.questions, red.events())
        alice.must("sh", "-c", f"echo kept >{files}/word")
        expect(alice.run("umount", files), 0)
        expect(alice.run("mount", files, answers=["1234"]), 0)
    # Without lock-on-removal a key is needed for the unlock only.
    expect(alice.run("cat", f"{files}/word"), 0, "kept")
    expect(alice.passkeyfs("umount", files), 0)
    assert not is_mounted(files)
    fstab()


@case
def a_late_touch_is_waited_for():
    with key("red") as red:
        red.script(touch="after 8000")
        done = alice.passkeyfs("key", "test", one_key(), answers=["1234"])
        expect(done, 0)
        assert done.seconds > 8 and red.touches() == 1, (done, red.events())


@case
def two_commands_at_once_on_one_key_do_not_disturb_each_other():
    with key("red") as red:
        red.script(touch="after 1500")
        answers = ["1234", "1234"]
        commands = [alice.start("passkeyfs", "key", "test", one_key(), answers=answers) for _ in range(2)]
        ended = sorted((command() for command in commands), key=lambda done: done.code)
        expect(ended[0], 0)
        # The other one waits for a moment only.
        if ended[1].code != 0:
            expect(ended[1], 1, f"{red.shown()} is in use by another process", "Wait until the other command is done")
        assert red.tries_left() == 8


@case
def on_a_terminal_the_pin_is_not_shown_and_the_touch_is_announced():
    with key("red") as red, Terminal(alice, "passkeyfs", "key", "test", one_key()) as terminal:
        red.script(touch="after 1000")
        terminal.expect(r"PIN of red \(/dev/hidraw\d+\)")
        wait_until("no echo", lambda: not terminal.echoes())
        terminal.send("1234\n")
        said = terminal.expect(r"Touch red")
        assert "1234" not in said.string
        assert terminal.ended() == 0 and terminal.echoes(), terminal.text


@case
def control_c_at_the_pin_prompt_ends_the_command_and_gives_the_terminal_back():
    with key("red") as red, Terminal(alice, "passkeyfs", "key", "test", one_key()) as terminal:
        terminal.expect(r"PIN of red")
        wait_until("no echo", lambda: not terminal.echoes())
        terminal.send("\x03")
        assert terminal.ended(seconds=5) in (4, 130, -signal.SIGINT), terminal.text
        assert terminal.echoes(), "the terminal does not echo any more"
        assert red.touches() == 0 and red.tries_left() == 8, red.events()
    no_helper_is_left()


@case
def control_c_while_the_key_blinks_ends_the_command_and_the_blinking():
    with key("red") as red:
        red.script(touch="never")
        with Terminal(alice, "passkeyfs", "key", "test", one_key()) as terminal:
            terminal.expect(r"PIN of red")
            terminal.send("1234\n")
            wait_until("the key blinks", red.touches)
            terminal.send("\x03")
            terminal.ended(seconds=5)
        no_helper_is_left()
        wait_until("the key is told to stop", lambda: "touch cancelled" in red.events(), seconds=5)
        red.script()
        expect(alice.passkeyfs("key", "test", one_key(), answers=["1234"]), 0)


@case
def no_command_line_and_no_environment_holds_the_pin_while_a_key_unlocks():
    with key("red") as red:
        red.script(touch="after 3000")
        command = alice.start("passkeyfs", "key", "test", one_key(), answers=["1234"])
        looked_at = set()

        def look():
            for name in filter(str.isdigit, os.listdir("/proc")):
                try:
                    with open(f"/proc/{name}/cmdline", "rb") as line, open(f"/proc/{name}/environ", "rb") as environment:
                        words = line.read()
                        if b"passkeyfs" in words:
                            looked_at.add(words)
                            assert b"1234" not in words + environment.read()
                except (FileNotFoundError, ProcessLookupError):
                    continue
            return command.process.poll() is not None

        wait_until("the command ends", look, seconds=60)
        expect(command(), 0)
        assert any(b"hid-helper" in words for words in looked_at), looked_at
