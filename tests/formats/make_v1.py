"""How v1.tjit was made, once, by the first version: never to be written again, so that what users have runs on."""

from pathlib import Path

import tjit

if __name__ == "__main__":
    calls = tjit.ones(())
    calls.__dict__["name"] = "calls"

    def step(x):
        y = x.sum(1) * calls
        calls.add_(1)
        return y

    tjit.export(
        {"step": (step, (tjit.ones(4, 3),))},
        Path(__file__).parent / "v1.tjit",
        targets=("x86-64", "aarch64"),
        dynamic={"x": {0: tjit.Dim("rows", min=1)}},
        metadata={"format": 1},
    )
    (Path(__file__).parent / "v1.h").unlink()
