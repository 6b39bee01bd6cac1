"""`icf --help` beside the smallest program of the same library."""

import sys
from collections.abc import Sequence

from benchmarks.measure import ICF, Command, Row, main, take_turns, wall

_BARE = """
import typer
app = typer.Typer(add_completion=False, rich_markup_mode=None)
@app.command()
def bare() -> None: pass
app()
"""


def rows(quick: bool) -> Sequence[Row]:
    """What icf adds to the start of Python and typer."""
    runs = take_turns(
        1 if quick else 15,
        ours=Command([*ICF, "--help"]),
        peer=Command([sys.executable, "-c", _BARE, "--help"]),
    )
    added = wall(runs["ours"]) - wall(runs["peer"])
    return [
        Row(
            "icf --help",
            "",
            runs["ours"],
            "bare typer program",
            runs["peer"],
            "+0.15 s",
            f"{added:+.3f} s",
        )
    ]


if __name__ == "__main__":
    main(rows)
