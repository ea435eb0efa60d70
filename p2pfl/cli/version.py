"""`p2pfl version`: which version this is; the same as --version."""

from __future__ import annotations

import click

from p2pfl._version import __version__
from p2pfl.cli import output
from p2pfl.cli.options import json_option


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Which version this is."""
    output.result(f"p2pfl {__version__}", {"version": __version__}, as_json)
