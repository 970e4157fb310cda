#!/usr/bin/env python3
"""What people and programs rely on, claim by claim, on a mounted vault, as root. Usage: behaviours.py [PART OF A SENTENCE]

Where a claim says *as on the local disk*, the same is done on a plain folder beside it and the answers are compared.
"""

import sys

import behaviours_daemon
import behaviours_data
import behaviours_metadata
import behaviours_places
import behaviours_tools
import harness


def main():
    claims = harness.Claims(only=" ".join(sys.argv[1:]))
    with harness.Vault("behaviours") as vault:
        for part in (behaviours_metadata, behaviours_data, behaviours_tools):
            part.check(claims, vault)

        @claims.claim("after all this, check --data finds nothing wrong with the vault")
        def _():
            vault.stop()
            vault.check()
    behaviours_daemon.check(claims)
    behaviours_places.check(claims)
    claims.finish()


if __name__ == "__main__":
    main()
