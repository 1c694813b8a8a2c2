"""Which runs make up the paper's table: `paper.toml` read, and turned into planned runs."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paper_runs import Attacking, Planned

#: Roles of runs beside an entry's own, which has none.
NO_MAP, OFF = "no-map", "off"


@dataclass(frozen=True, slots=True)
class Entry:
    """A job of the table; see the head of `paper.toml`.

    ``off`` holds the settings of runs without noise by their name. ``scale`` is the strength of
    its attacks, and ``attacked`` the seeds of the runs that are attacked; all of them by default.
    ``map``: whether there is a label map whose price could be measured.
    """

    name: str
    job: Path
    title: str = ""
    set: tuple[str, ...] = ()
    public: Path | None = None
    retention: float | None = None
    yardstick: str = ""
    pictures: tuple[str, ...] = ()
    off: dict[str, tuple[str, ...]] = field(default_factory=dict)
    scale: float = 1.0
    attacked: tuple[int, ...] | None = None
    map: bool = True


@dataclass(frozen=True, slots=True)
class Sheet:
    """All of `paper.toml`. ``title`` and ``scope`` begin the page."""

    entries: tuple[Entry, ...]
    without_map: tuple[str, ...]
    parties: tuple[str, ...]
    ranks: int
    attack_ranks: int
    attack_seeds: int
    off_seeds: tuple[int, ...]
    title: str = "Results"
    scope: str = ""


def read_sheet(path: Path) -> Sheet:
    """Read the TOML file; a key it should not have is an error."""
    table = tomllib.loads(path.read_text())
    entries = tuple(_entry(one) for one in table.pop("entries"))
    whole: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in table.items()
    }
    return Sheet(entries=entries, **whole)


def _entry(table: dict[str, Any]) -> Entry:
    made = dict(table)
    made["job"] = Path(made["job"])
    made["off"] = {name: tuple(one) for name, one in made.get("off", {}).items()}
    for name in ("set", "pictures"):
        made[name] = tuple(made.get(name, ()))
    if "attacked" in made:
        made["attacked"] = tuple(made["attacked"])
    if "public" in made:
        made["public"] = Path(made["public"])
    return Entry(**made)


def chosen(sheet: Sheet, jobs: Sequence[str]) -> tuple[Entry, ...]:
    """Return the entries called, or made of a job file called, one of ``jobs``; all for none.

    A job file that is in no entry becomes one: without public data, against itself without noise.
    """
    if not jobs:
        return sheet.entries
    found: list[Entry] = []
    for name in jobs:
        stem = Path(name).stem
        mine = [one for one in sheet.entries if name == one.name or stem == one.job.stem]
        exact = [one for one in mine if one.name == name]
        plain = Entry(stem, Path(name), off={"same settings": ("privacy.enabled=false",)})
        found += exact or mine or [plain]
    return tuple({one.name: one for one in found}.values())


def run_name(entry: str, seed: int, role: str = "", off: str = "") -> str:
    """Return the name of a run's folder."""
    parts = [entry, role, off.replace(" ", "-"), f"seed{seed}"]
    return "-".join(part for part in parts if part)


def planned_runs(
    sheet: Sheet, entries: Sequence[Entry], seeds: Sequence[int], *, scale: float, threads: int
) -> list[Planned]:
    """Return all runs, seed by seed, so that a first seed of everything is there early."""
    plan = []
    more = () if threads == 1 else (f"training.threads={threads}",)
    for seed in seeds:
        for entry in entries:
            attacking = Attacking(
                sheet.parties,
                entry.public,
                (),
                sheet.attack_seeds,
                scale * entry.scale,
                sheet.attack_ranks,
            )
            spared = entry.attacked is not None and seed not in entry.attacked
            roles: list[tuple[str, str, tuple[str, ...]]] = [("", "", ())]
            roles += [(NO_MAP, "", sheet.without_map)] if entry.map else []
            roles += [
                (OFF, name, extra) for name, extra in entry.off.items() if seed in sheet.off_seeds
            ]
            plan += [
                Planned(
                    run_name(entry.name, seed, role, off),
                    entry.job,
                    (*entry.set, *extra, *more, f"training.seed={seed}"),
                    None if role or spared else attacking,
                    sheet.ranks,
                )
                for role, off, extra in roles
            ]
    return plan
