"""`vet_hdf5_file`: refuse what an HDF5 file of a run never has, before anything in it is read.

HDF5 follows links into other files, takes raw data from them, and makes up space that was never
written; a file of a stranger would show files of the reader or fill its memory. Looked at here are
names, types, layouts and sizes alone: no data is read and no other file is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, Final

import numpy as np
from h5py import h5d, h5g, h5l, h5o, h5t, h5z

from clicooper_hpc.runstore.limits import (
    FREE_BYTES,
    MOST_CHUNK_BYTES,
    MOST_COLUMN_BYTES,
    MOST_DEPTH,
    MOST_DIMENSIONS,
    MOST_LINKS,
    MOST_TEXT_BYTES,
    MOST_UNFOLDING,
)

__all__ = [
    "NO_LINKS",
    "LinkRules",
    "UnexpectedContentError",
    "is_plain_hdf5_type",
    "vet_hdf5_file",
    "vet_hdf5_type",
]

_FILTERS: Final = (h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32)
_LAYOUTS: Final = (h5d.COMPACT, h5d.CONTIGUOUS, h5d.CHUNKED)
_NUMBERS: Final = tuple(
    getattr(h5t, f"{form}{bits}{order}")
    for order in ("LE", "BE")
    for form, bits in (
        *product(("STD_I", "STD_U"), (64, 32, 16, 8)),
        *product(("IEEE_F",), (64, 32, 16)),
    )
)
_TRUTH: Final = h5t.py_create(np.dtype(np.bool_), logical=True)
_CHARACTERS: Final = (h5t.CSET_ASCII, h5t.CSET_UTF8)
_PADDINGS: Final = (h5t.STR_NULLTERM, h5t.STR_NULLPAD, h5t.STR_SPACEPAD)
_KINDS: Final = {
    h5t.TIME: "a time",
    h5t.BITFIELD: "a bit field",
    h5t.OPAQUE: "opaque bytes",
    h5t.COMPOUND: "a compound",
    h5t.REFERENCE: "references",
    h5t.ENUM: "an enumeration",
    h5t.VLEN: "of variable length",
    h5t.ARRAY: "an array",
}


class UnexpectedContentError(Exception):
    """A file holds something else than its format says; `read_hdf5_file` adds which file.

    Attributes
    ----------
    place
        Path inside the file, with `` (attribute NAME)`` where it is one.
    what
        What was found there and what was expected, in one clause.
    """

    def __init__(self, place: str, what: str) -> None:
        super().__init__(f"{place}: {what}")
        self.place = place
        self.what = what


@dataclass(frozen=True, slots=True)
class LinkRules:
    """Which links out of their place a file may have; by default none.

    Attributes
    ----------
    link
        Whether the link at a path may be soft, or external, to a target: for a soft one the file
        is "".
    source
        Whether the virtual dataset at a path may take its data from a file and a dataset.
    """

    link: Callable[[str, str, str], bool]
    source: Callable[[str, str, str], bool]


NO_LINKS: Final = LinkRules(
    lambda _place, _file, _target: False, lambda _place, _file, _path: False
)


def vet_hdf5_file(file: Any, stored: int, rules: LinkRules = NO_LINKS, *, below: str = "") -> None:
    """Refuse an open HDF5 file that holds anything a run never writes.

    Parameters
    ----------
    file
        The `h5py.File`.
    stored
        Bytes of the file on disk, holes left out.
    rules
        The links it may have.
    below
        Path of the one group that will be read, "" for the whole file.

    Raises
    ------
    UnexpectedContentError
        A link to elsewhere, external storage, a filter, type or shape that is not ours, or more
        of something than `clicooper_hpc.runstore.limits` allows.
    """
    group, at = file["/"].id, "/"
    vetting = _Vetting(rules, FREE_BYTES + MOST_UNFOLDING * stored, h5o.get_info(group).addr)
    for name in filter(None, below.split("/")):
        group, at = _step_into(group, name.encode(), at), f"{at}{name}/"
    vetting.vet_group(group, at, 0)


def vet_hdf5_type(kind: Any, place: str) -> None:
    """Refuse a type (`h5py.h5t.TypeID`) that is no number, truth value or text of fixed length."""
    if is_plain_hdf5_type(kind):
        return
    code = kind.get_class()
    if code == h5t.STRING:
        found = (
            "text of variable length"
            if kind.is_variable_str()
            else f"text of {kind.get_size()} bytes, or of no known character set"
        )
    else:
        found = _KINDS.get(code, f"a number of {kind.get_size()} bytes, of no standard form")
    raise UnexpectedContentError(
        place, f"its type is {found}; expected are numbers or text of fixed length"
    )


def is_plain_hdf5_type(kind: Any) -> bool:
    """Tell whether a type is a number, truth value or text that NumPy has as well.

    HDF5 has numbers of any width, with the sign, exponent or unused bits anywhere; asked for the
    like of such a one, h5py fails in many ways.
    """
    code = kind.get_class()
    if code in (h5t.INTEGER, h5t.FLOAT):
        return any(kind.equal(one) for one in _NUMBERS)
    if code == h5t.STRING:
        sized = not kind.is_variable_str() and kind.get_size() <= MOST_TEXT_BYTES
        return sized and kind.get_cset() in _CHARACTERS and kind.get_strpad() in _PADDINGS
    # An enumeration of anything else has no meaning here.
    return bool(code == h5t.ENUM and kind.equal(_TRUTH))


def _step_into(group: Any, name: bytes, at: str) -> Any:
    place = at + name.decode()
    if name not in group or group.links.get_info(name).type != h5l.TYPE_HARD:
        raise UnexpectedContentError(place, "is missing or a link; expected is a group")
    found = h5o.open(group, name)
    if not isinstance(found, h5g.GroupID):
        raise UnexpectedContentError(place, "is no group")
    return found


class _Vetting:
    def __init__(self, rules: LinkRules, budget: int, root: int) -> None:
        self._rules = rules
        self._budget = budget
        self._left = budget
        self._links = 0
        self._seen = {root}

    def vet_group(self, group: h5g.GroupID, at: str, depth: int) -> None:
        """Look at everything below ``group``, whose path is ``at`` and ends with a slash."""
        if depth > MOST_DEPTH:
            raise UnexpectedContentError(at, f"groups lie more than {MOST_DEPTH} deep")
        # Asked for before they are listed: listing builds a table of all names.
        self._count(group.get_num_objs(), at)
        links = group.links
        for name in group:
            place = at + name.decode("utf-8", "backslashreplace")
            link = links.get_info(name)
            if link.type == h5l.TYPE_HARD:
                # Two names of one thing, or a group within itself: neither is ours. For a hard link
                # ``u`` is the address of what it names.
                if link.u in self._seen:
                    raise UnexpectedContentError(place, "is a second name of something in the file")
                self._seen.add(link.u)
                self._vet_object(h5o.open(group, name), place, depth)
            else:
                self._vet_link(links, name, place)

    def _count(self, more: int, at: str) -> None:
        self._links += more
        if self._links > MOST_LINKS:
            raise UnexpectedContentError(at, f"the file has more than {MOST_LINKS} names")

    def _vet_link(self, links: Any, name: bytes, place: str) -> None:
        kind = links.get_info(name).type
        if kind == h5l.TYPE_SOFT:
            file, target = "", links.get_val(name)
        elif kind == h5l.TYPE_EXTERNAL:
            file, target = links.get_val(name)
            file = file.decode("utf-8", "backslashreplace")
        else:
            raise UnexpectedContentError(place, "is a link of a kind that no run has")
        target = target.decode("utf-8", "backslashreplace")
        if not self._rules.link(place, file, target):
            into = f" in the file {file!r}" if file else ""
            raise UnexpectedContentError(place, f"is a link to {target!r}{into}, which no run has")

    def _vet_object(self, found: Any, place: str, depth: int) -> None:
        if isinstance(found, h5g.GroupID):
            self.vet_group(found, f"{place}/", depth + 1)
        elif isinstance(found, h5d.DatasetID):
            self._vet_dataset(found, place)
        else:
            raise UnexpectedContentError(place, "is neither a group nor a dataset")

    def _vet_dataset(self, dataset: h5d.DatasetID, place: str) -> None:
        made = dataset.get_create_plist()
        kind = dataset.get_type()
        vet_hdf5_type(kind, place)
        if made.get_layout() == h5d.VIRTUAL:
            # Not asked for its shape: that would open the files it is made from.
            self._vet_sources(made, place)
            return
        if made.get_layout() not in _LAYOUTS or made.get_external_count():
            raise UnexpectedContentError(place, "its data lies in another file, as no run has it")
        space = dataset.get_space()
        if space.get_simple_extent_ndims() > MOST_DIMENSIONS:
            raise UnexpectedContentError(place, f"has more than {MOST_DIMENSIONS} dimensions")
        if made.get_layout() == h5d.CHUNKED:
            self._vet_chunks(made, kind.get_size(), place)
        # get_select_npoints is 0 for an empty (null) space and 1 for a scalar.
        size = space.get_select_npoints() * kind.get_size()
        if size > MOST_COLUMN_BYTES:
            raise UnexpectedContentError(
                place, f"has {size} bytes; at most {MOST_COLUMN_BYTES} are read"
            )
        self._left -= size
        if self._left < 0:
            raise UnexpectedContentError(
                place,
                f"with it the file unfolds to more than {self._budget} bytes, "
                f"{MOST_UNFOLDING} times what it stores",
            )

    def _vet_chunks(self, made: Any, item: int, place: str) -> None:
        if prod(made.get_chunk()) * item > MOST_CHUNK_BYTES:
            raise UnexpectedContentError(place, f"has chunks of more than {MOST_CHUNK_BYTES} bytes")
        codes = [made.get_filter(number)[0] for number in range(made.get_nfilters())]
        odd = [code for code in codes if code not in _FILTERS]
        if odd or len(set(codes)) < len(codes):
            # Never asked to unpack: HDF5 would look for a plugin, or unpack in several turns.
            raise UnexpectedContentError(
                place,
                f"is packed by the HDF5 filters {codes}; runs use gzip, shuffle and fletcher32, "
                "each once",
            )

    def _vet_sources(self, made: Any, place: str) -> None:
        for number in range(made.get_virtual_count()):
            file = str(made.get_virtual_filename(number))
            path = str(made.get_virtual_dsetname(number))
            if not self._rules.source(place, file, path):
                raise UnexpectedContentError(
                    place, f"takes its data from {path!r} in the file {file!r}, as no run does"
                )
