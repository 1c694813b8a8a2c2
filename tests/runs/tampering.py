"""One tampering for every object of a finished run, made by walking its folder.

A stranger without keys changes, removes or adds one thing and makes the unsigned digests of the
ranks' files fit again, as anybody can. What must notice it follows from the place by `RULES`: a new
dataset, attribute, link or file without a rule has no row, and the test fails.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from safetensors.numpy import load_file, save_file

from clicooper_hpc.runstore.hdf5.characters import texts_to_characters
from clicooper_hpc.runstore.index import index_shard_digest

__all__ = ["Tampering", "folder_tamperings", "hdf5_tamperings", "reseal"]

ALL_TABLES = "checkpoints|evaluation|heads|ledger|messages|proving|releases|steps|training"


@dataclass(frozen=True)
class Tampering:
    """A change of one thing.

    Attributes
    ----------
    place
        What is changed.
    how
        In what way: rows of one place pattern and one way are of one kind.
    act
        Does it to a copy of the run.
    fails
        Checks of which at least one must fail; empty if the place is named as not covered.
    says
        What the verification says of it, in a failing check or in the line "not covered".
    kind
        Rows of one kind are alike.
    """

    place: str
    how: str
    act: Callable[[Path], None]
    fails: frozenset[int]
    says: str
    kind: str

    @property
    def name(self) -> str:
        return f"{self.place} {self.how}"


#: Place and way (as "PLACE WAY") to checks that may notice it, and what one of them says. ``None``
#: says: the place itself.
RULES: tuple[tuple[str, set[int], str | None], ...] = (
    # What cannot be read as a run at all ends the verification with an error; see the test.
    (r"run\.h5:/@(format|format_version|num_ranks|layout|run_id) .*", {1, 2, 15, 19}, ""),
    (r"run\.h5:/@(resolved_job|job_digest) changed", {2}, "job"),
    (r"run\.h5:/@status changed", {5}, "status"),
    (r"run\.h5:/@\w+ changed", {15}, "rows of rank 0"),
    (r"run\.h5:/@\w+ removed", {1, 2, 5, 15, 19}, ""),
    (r"run\.h5:/privacy/promised changed", {2}, "privacy card"),
    # Which entries a card has is the run's matter: its owner signed them all.
    (r"run\.h5:/privacy@[\w.]+ (changed|added)", {15}, "rows of rank 0"),
    (r"run\.h5:/shard_digests changed", {15}, "not the one the finished run left"),
    (r"run\.h5:/(hosts|rank|privacy/card) changed", {15}, "rows of rank 0"),
    (r"run\.h5:/(pipeline|results)/(?!string\d)\w+ changed", {15}, "rows of rank 0"),
    # Which results a run has is its own matter; the owner signed how many and what they are.
    (r"run\.h5:/results/\w+ removed", {15}, "rows of rank 0"),
    (r"run\.h5:/(hosts|rank|privacy|privacy/card) removed", {2, 15, 19}, ""),
    (r"run\.h5:/.* (removed|added|led elsewhere|copied|retyped)", {19}, None),
    # What it repeats of the ranks' files, and axes of characters.
    (r"run\.h5:/((metrics|ranks)/.*|(.*/)?string\d+) changed", {19}, None),
    (r"run\.h5:/.*@.* changed", {19}, None),
    (r"rank-\d+\.h5:/@(run_id) changed", {1, 15, 18, 19}, "another run"),
    (r"rank-\d+\.h5:/.*@.* (changed|removed|added)", {15, 19}, None),
    (r"rank-\d+\.h5:/ledger/envelope changed", {1, 4}, "entry"),
    (r"rank-\d+\.h5:/checkpoints/note changed", {4, 5}, "checkpoint"),
    (r"rank-\d+\.h5:/heads/root changed", {16}, "another ledger at size"),
    (r"rank-\d+\.h5:/heads/note changed", {16}, "is not the owner's"),
    # A row that is not complete is not there: then the ledger is what its last checkpoint belies.
    (r"rank-\d+\.h5:/(heads|checkpoints|ledger)/complete changed", {4, 5, 15, 16}, ""),
    (r"rank-\d+\.h5:/(heads|checkpoints|ledger)/(?!string\d)\w+ changed", {15}, "rows of rank"),
    (r"rank-\d+\.h5:/messages/digest changed", {15, 18}, "messages of rank"),
    (rf"rank-\d+\.h5:/({ALL_TABLES})/string\d+ changed", {19}, None),
    (rf"rank-\d+\.h5:/({ALL_TABLES})/\w+ changed", {15}, "rows of rank"),
    (rf"rank-\d+\.h5:/({ALL_TABLES})(/\w+)? (removed|added|copied|retyped)", {1, 15, 19}, ""),
    (r"rank-\d+\.h5:/\w+ added", {19}, None),
    (r"delivery/segment-\d+\.safetensors changed", {13}, "file of segment"),
    (r"delivery/segment-\d+\.safetensors removed", {13}, "cannot be read"),
    (r"delivery/segment-\d+\.safetensors text added", {13}, "not one that the run writes"),
    # Which states are kept is the run's choice: the check says how many it saw.
    (r"checkpoints/stage-\d+/segment-\d+\.safetensors removed", set(), "states kept: 3 of 4"),
    (r"checkpoints/stage-\d+/segment-\d+\.safetensors changed", {14}, "checkpoint of segment"),
    (r"checkpoints/stage-\d+/segment-\d+\.safetensors text added", {14}, "text 'note'"),
    (r"checkpoints/stage-\d+/segment-\d+\.safetensors tensor added", {14}, "covered by no proof"),
    (r"rank-000\.h5 removed", {1}, "file of the owner"),
    (r"rank-\d+\.h5 removed", {15, 16, 18}, "missing"),
    (r"(private|wire|checkpoints/step-\d+)/.* (changed|removed|added)", set(), None),
    (r"[^/]+ added", set(), None),
    (r"(delivery|equivocation|checkpoints/stage-\d+)/[^/]+ added", set(), None),
    (r"\.lock changed", set(), None),
)


def ruled(place: str, how: str, act: Callable[[Path], None]) -> Tampering:
    """Return the row of a place, with what `RULES` say of it."""
    for pattern, fails, says in RULES:
        if re.fullmatch(pattern, f"{place} {how}"):
            # Of a place in an HDF5 file the path in it is said, beside the file.
            said = place.partition(":")[2] or place if says is None else says
            return Tampering(place, how, act, frozenset(fails), said, f"{pattern} {how}")
    raise AssertionError(f"no check and no line covers {place} {how}: add a rule or a check")


def reseal(run: Path) -> None:
    """Write the digests of the ranks' files as they are now: nobody signs them."""
    with h5py.File(run / "run.h5", "r+", locking=False) as file:
        if "shard_digests" in file:
            count = len(file["shard_digests"])
            digests = [index_shard_digest(run / f"rank-{rank:03d}.h5") for rank in range(count)]
            length = file["shard_digests"].shape[1]
            characters = texts_to_characters(np.array(digests, f"S{length}"))
            file["shard_digests"][:] = characters.astype(file["shard_digests"].dtype)


def hdf5_tamperings(run: Path, name: str) -> Iterator[Tampering]:
    """Yield rows for every group, dataset, link, view and attribute of one HDF5 file."""
    with h5py.File(run / name, "r", locking=False) as file:
        places = list(_walk(file, ""))
        kinds = {"/": "group"} | {place: _kind_of(file, place) for place in places}
        attributes = {
            place: list(file[place].attrs) for place, kind in kinds.items() if kind != "link"
        }
    for place in places:
        yield _row(name, place, "removed", _remove)
        if kinds[place] == "link":
            yield _row(name, place, "led elsewhere", _lead)
        elif kinds[place] == "view":
            yield _row(name, place, "led elsewhere", _view)
            yield _row(name, place, "copied", _copy)
        elif kinds[place] == "dataset":
            yield _row(name, place, "changed", _change)
            yield _row(name, place, "retyped", _retype)
    for place, names in attributes.items():
        is_group = kinds[place] == "group"
        for one in names:
            # The others of a dataset are references between scales, made by HDF5.
            if is_group or one in ("units", "long_name", "NAME"):
                yield _row(name, f"{place}@{one}", "changed", _change_attribute)
            else:
                yield _row(name, f"{place}@{one}", "removed", _remove_attribute)
        yield _row(name, f"{place}@note", "added", _add_attribute)
        if is_group:
            yield _row(name, f"{place.rstrip('/')}/extra", "added", _add_value)


def folder_tamperings(run: Path) -> Iterator[Tampering]:
    """Yield rows for every file of the folder, and for files put there."""
    for path in sorted(one for one in run.rglob("*") if one.is_file()):
        place = str(path.relative_to(run))
        if place == "run.h5":
            continue
        # What nobody vouches for may be left out.
        if re.match(r"rank|delivery|checkpoints/stage", place):
            yield _file_row(place, "removed", Path.unlink)
        if path.suffix != ".h5":
            yield _file_row(place, "changed", _flip)
        if re.match(r"delivery/|checkpoints/stage", place):
            yield _file_row(place, "text added", _add_text)
        if place.startswith("checkpoints/stage"):
            yield _file_row(place, "tensor added", _add_tensor)
    for place in (
        "notes.txt",
        "rank-007.h5",
        "slurm-17.out",
        "STOP",
        "delivery/segment-009.safetensors",
        "delivery/labels.json",
        "checkpoints/stage-00000/notes.txt",
        "equivocation/rank-001-0123456789abcdef.json",
        "private/attacks.h5",
        "wire/notes.txt",
    ):
        yield _file_row(place, "added", _write)


def _row(name: str, place: str, how: str, change: Callable[[Any, str], object]) -> Tampering:
    def act(run: Path) -> None:
        with h5py.File(run / name, "r+", locking=False) as file:
            change(file, place)
        if name != "run.h5":
            reseal(run)

    return ruled(f"{name}:{place}", how, act)


def _file_row(place: str, how: str, change: Callable[[Path], object]) -> Tampering:
    def act(run: Path) -> None:
        change(run / place)

    return ruled(place, how, act)


def _walk(group: Any, path: str) -> Iterator[str]:
    for name in group:
        place = f"{path}/{name}"
        yield place
        own = isinstance(group.get(name, getlink=True), h5py.HardLink)
        if own and isinstance(group[name], h5py.Group):
            yield from _walk(group[name], place)


def _kind_of(file: Any, place: str) -> str:
    if not isinstance(file.get(place, getlink=True), h5py.HardLink):
        return "link"
    item = file[place]
    if isinstance(item, h5py.Group):
        return "group"
    return "view" if item.is_virtual else "dataset"


def _lead(file: Any, place: str) -> None:
    link = file.get(place, getlink=True)
    del file[place]
    if isinstance(link, h5py.ExternalLink):
        other = "rank-000.h5" if link.filename != "rank-000.h5" else "rank-001.h5"
        file[place] = h5py.ExternalLink(other, link.path)
    else:
        file[place] = h5py.SoftLink("/ranks/001/steps")


def _view(file: Any, place: str) -> None:
    """Have a view show the same rows of the owner's steps for every rank."""
    old = file[place]
    attrs, dtype, shape = dict(old.attrs), old.dtype, old.shape
    layout = h5py.VirtualLayout(shape, dtype)
    source = h5py.VirtualSource("rank-000.h5", "steps/step_s", (shape[0],), np.float64)
    for rank in range(shape[1] if len(shape) > 1 else 0):
        layout[:, rank] = source
    if len(shape) == 1:
        layout[:] = source
    _replace(file, place, attrs, lambda: file.create_virtual_dataset(place, layout))


def _copy(file: Any, place: str) -> None:
    """Replace a view by values of one's own."""
    old = file[place]
    attrs, values = dict(old.attrs), old[()]
    _replace(file, place, attrs, lambda: file.create_dataset(place, data=values))


def _retype(file: Any, place: str) -> None:
    """Store the same values under another type."""
    old = file[place]
    attrs, values = dict(old.attrs), old[()]
    dtype = np.dtype(">f8" if old.dtype.kind == "f" else ">i8" if old.dtype.kind in "iu" else "S99")
    if old.dtype.kind == "S":
        dtype = np.dtype(f"S{old.dtype.itemsize + 1}")
    data = np.asarray(values).astype(dtype)
    _replace(file, place, attrs, lambda: file.create_dataset(place, data=data))


def _replace(file: Any, place: str, attrs: dict[str, Any], make: Callable[[], Any]) -> None:
    del file[place]
    new = make()
    for name, value in attrs.items():
        if name in ("units", "long_name"):
            new.attrs[name] = value


def _remove(file: Any, place: str) -> None:
    del file[place]


def _add_value(file: Any, place: str) -> None:
    file[place] = 1.5


def _change(file: Any, place: str) -> None:
    dataset = file[place]
    values = np.array(dataset[()])
    flat = values.reshape(-1)
    if values.dtype.kind == "S":
        text = bytearray(flat[-1])
        if text:
            text[len(text) // 2] ^= 1
        flat[-1] = bytes(text) or b"x"
    elif values.dtype.kind == "f":
        flat[-1] = 0.125 if np.isnan(flat[-1]) else -flat[-1] - 1
    else:
        flat[-1] = flat[-1] ^ 1
    dataset[()] = values.astype(dataset.dtype) if values.ndim else flat[0]


def _attribute(file: Any, place: str) -> tuple[Any, str]:
    path, _, name = place.rpartition("@")
    return file[path].attrs, name


def _remove_attribute(file: Any, place: str) -> None:
    attributes, name = _attribute(file, place)
    del attributes[name]


def _add_attribute(file: Any, place: str) -> None:
    attributes, name = _attribute(file, place)
    attributes[name] = 1


def _change_attribute(file: Any, place: str) -> None:
    attributes, name = _attribute(file, place)
    value = attributes[name]
    if isinstance(value, bytes | np.bytes_):
        text = bytearray(value)
        text[len(text) // 2] ^= 1
        attributes[name] = np.array(bytes(text), h5py.string_dtype("utf-8", len(text)))
    else:
        attributes[name] = np.asarray(value).dtype.type(1 - value)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes()) or bytearray(b"\0")
    content[-1] ^= 0x10
    path.write_bytes(content)


def _write(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("all is well")


def _add_text(path: Path) -> None:
    save_file(load_file(path), path, {"note": "all is well"})


def _add_tensor(path: Path) -> None:
    save_file({**load_file(path), "note": np.zeros(2, np.float32)}, path)


def copied(run: Path, place: Path) -> Path:
    """Return a fresh copy of a run."""
    shutil.rmtree(place, ignore_errors=True)
    return Path(shutil.copytree(run, place))
