"""The rig: what the other cases stand on, seen with libfido2's programs, which know nothing of passkeyfs."""

from rig import Key, case, output, set_pin


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
