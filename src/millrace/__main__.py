"""The `millrace` command; also `python -m millrace`."""

from __future__ import annotations

import sys

from .streaming.errors import MissingExtra, require


def main() -> None:
    """Runs the command line. Its packages are the extra `cli`; without them it says how to get them."""
    try:
        for package in ("typer", "rich"):
            require(package, "cli")
    except MissingExtra as error:
        sys.exit(f"millrace: {error}")
    from .launchers.commands import app

    app(prog_name="millrace")


if __name__ == "__main__":
    main()
