"""What the campaigns' command lines take."""

import argparse


def counted(text: str) -> int:
    """A whole number, 0 or more."""
    return _whole(text, least=0)


def some(text: str) -> int:
    """A whole number, 1 or more."""
    return _whole(text, least=1)


def positive(text: str) -> float:
    """A number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def _whole(text: str, *, least: int) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, {least} or more")
    return int(text)
