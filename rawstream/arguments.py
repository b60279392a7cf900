"""Types of command-line arguments that several commands have."""

from __future__ import annotations

import argparse


def port(text: str) -> int:
    """Return a TCP port; 0 stands for any that is free."""
    number = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= number < 65536:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return number
