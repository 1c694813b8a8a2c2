"""Outline of an HDF5 file: every group, dataset, link, view and attribute as one line of text.

Two files with one outline show a reader the same things under the same names, whatever the values
of their datasets. A place is a path, of an attribute the path of its object, ``@`` and its name.
How HDF5 stores what it shows (chunks, filters, order, comments, unused bytes) is in no outline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import islice, takewhile
from math import prod
from typing import Any, Final

import h5py
import numpy as np

from clicooper_hpc.runstore.hdf5.characters import is_character_scale
from clicooper_hpc.runstore.hdf5.vetting import is_plain_hdf5_type
from clicooper_hpc.runstore.limits import MOST_DIMENSIONS

__all__ = ["hdf5_outline", "outline_differences"]

#: Differences that are spelt out: a file that is wrong throughout would fill the memory.
_MOST_DIFFERENCES: Final = 20
#: Longest value shown as it is; of others the digest follows its beginning.
_SHOWN: Final = 60
#: Most bytes of an attribute that are read: those of HDF5's own object header, and some more.
_MOST_BYTES: Final = 1 << 20
_GROUP: Final = "a group"


def hdf5_outline(file: Any, *, values: bool = False) -> dict[str, str]:
    """Return place to line of all that ``file`` holds. For files of our own making.

    ``values``: with a digest of the values of every dataset that is no view.
    """
    return dict(_outline_lines(file, None, values=values))


def outline_differences(
    file: Any, expected: Mapping[str, str], *, values: bool = False
) -> list[str]:
    """Return how the outline of ``file`` departs from ``expected``, at most a few lines.

    ``values``: as of `hdf5_outline`.

    Of groups that are not expected only the name is read, so that a file nobody vouches for costs
    no more than one that is as it must be.
    """
    return list(islice(_differences(file, expected, values=values), _MOST_DIFFERENCES))


def _differences(file: Any, expected: Mapping[str, str], *, values: bool) -> Iterator[str]:
    missing = dict(expected)
    for place, line in _outline_lines(file, expected, values=values):
        wanted = missing.pop(place, None)
        if wanted is None:
            yield f"{place} must not be there ({line})"
        elif line != wanted:
            found, due = _without_common_start(line, wanted)
            yield f"{place} is {found}, must be {due}"
    yield from (f"{place} is missing" for place in missing)


def _without_common_start(found: str, due: str) -> tuple[str, str]:
    """Return two lines from where they part, if they share more than would be shown."""
    parts = [found.split(" "), due.split(" ")]
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*parts, strict=False)))
    if len(" ".join(parts[0][:same])) <= _SHOWN:
        return found, due
    rest = [" ".join(part[same:]) for part in parts]
    return f"... {rest[0]}", f"... {rest[1]}"


def _outline_lines(
    file: Any, known: Mapping[str, str] | None, *, values: bool
) -> Iterator[tuple[str, str]]:
    """Yield place and line; below groups that are not ``known`` (None: all are) nothing."""
    # Everything by the identifiers of HDF5: objects of h5py cost three times as much to make.
    root = file["/"].id
    names = _Names(root, known)
    waiting: list[tuple[str, Any]] = [("", root)]
    seen: dict[int, str] = {}
    while waiting:
        path, group = waiting.pop()
        yield from _attribute_lines(path or "/", group, names)
        for name in group:
            place = f"{path}/{_text(name)}"
            kind = group.links.get_info(name).type
            if kind != h5py.h5l.TYPE_HARD:
                yield place, f"a link to {_link_words(group.links.get_val(name))}"
                continue
            item = h5py.h5o.open(group, name)
            # A second name of an object, or a group within itself, which would have no end.
            address = h5py.h5o.get_info(item).addr
            if address in seen:
                yield place, f"another name of {seen[address]}"
                continue
            seen[address] = place
            if isinstance(item, h5py.h5g.GroupID):
                yield place, _GROUP
                if known is None or place in known:
                    waiting.append((place, item))
            elif isinstance(item, h5py.h5d.DatasetID):
                line = _dataset_line(item)
                # Where anything is of another kind there is nothing to compare.
                is_due = known is None or known.get(place, "").startswith(line)
                # An axis of characters holds nothing, so its values are always looked at.
                is_due = is_due and (values or is_character_scale(_text(name)))
                yield place, f"{line}, {_value_words(item)}" if is_due else line
                yield from _attribute_lines(place, item, names)
            else:
                yield place, "a named type"


def _link_words(value: Any) -> str:
    # Of a link out of the file: the other file's name and the path in it.
    return (
        " in ".join(_text(part) for part in reversed(value))
        if isinstance(value, tuple)
        else (_text(value))
    )


def _dataset_line(dataset: Any) -> str:
    kind, plan = dataset.get_type(), dataset.get_create_plist()
    parts = [f"a dataset of {_type_words(kind)}"]
    is_view = plan.get_layout() == h5py.h5d.VIRTUAL
    # A view is not asked for its space: to say how far it grew HDF5 would open its sources, and
    # follow whatever link lies in them. The space that was stored stands with every source.
    sources = plan.get_virtual_count() if is_view else 0
    space = plan.get_virtual_vspace(0) if sources else dataset.get_space()
    if space.get_simple_extent_type() == h5py.h5s.NULL:
        parts.append("without extent")
    else:
        now, most = space.get_simple_extent_dims(), space.get_simple_extent_dims(True)
        # A view that grows is as long as its sources are when it is opened.
        grows = [is_view and limit == h5py.h5s.UNLIMITED for limit in most]
        shape = ["*" if one else size for one, size in zip(grows, now, strict=True)]
        parts.append(f"{shape} of at most {list(most)}")
    if plan.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED:
        parts.append(f"filled with {_fill_words(kind, plan)}")
    if is_view:
        parts.append("a view of " + "; ".join(sorted(_source_words(plan))))
    if plan.get_external_count():
        parts.append(f"stored in other files, the first {_shown(plan.get_external(0)[0])}")
    return ", ".join(parts)


def _value_words(dataset: Any) -> str:
    if dataset.get_create_plist().get_layout() == h5py.h5d.VIRTUAL:
        return "values of others"
    values = np.ascontiguousarray(h5py.Dataset(dataset)[()])
    return f"values of SHA-256 {hashlib.sha256(values.tobytes()).hexdigest()[:32]}"


def _fill_words(kind: Any, plan: Any) -> str:
    if not is_plain_hdf5_type(kind):
        return "something of its type"
    value = np.zeros((), kind.dtype)
    plan.get_fill_value(value)
    return repr(value.tolist())


def _source_words(plan: Any) -> Iterator[str]:
    for number in range(plan.get_virtual_count()):
        where = f"{plan.get_virtual_dsetname(number)} in {plan.get_virtual_filename(number)}"
        source, view = plan.get_virtual_srcspace(number), plan.get_virtual_vspace(number)
        yield f"{_selection(source)} of {where} at {_selection(view)}"


def _selection(space: Any) -> str:
    kind = space.get_select_type()
    if kind == h5py.h5s.SEL_ALL:
        return "all"
    if kind != h5py.h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
        return "scattered places"
    # One block of 4 and 4 blocks of 1 are the same places; versions of HDF5 store either.
    return " ".join(map(_stretch, *(map(int, part) for part in space.get_regular_hyperslab())))


def _stretch(start: int, stride: int, count: int, block: int) -> str:
    """Return the places that a selection has along one axis, adjoining blocks as one."""
    unlimited = h5py.h5s.UNLIMITED
    if count == 1 or stride == block:
        length = "*" if unlimited in (count, block) else count * block
        return f"{start}+{length}"
    return f"{start}+{block} every {stride}, {'*' if count == unlimited else count} times"


def _attribute_lines(path: str, item: Any, names: _Names) -> Iterator[tuple[str, str]]:
    for number in range(h5py.h5a.get_num_attrs(item)):
        attribute = h5py.h5a.open(item, index=number)
        name = _text(attribute.name)
        yield f"{path}@{name}", _attribute_line(item, name, attribute, names)


def _attribute_line(item: Any, name: str, attribute: Any, names: _Names) -> str:
    kind, space = attribute.get_type(), attribute.get_space()
    if space.get_simple_extent_type() == h5py.h5s.NULL:
        return "an attribute without extent"
    shape = space.get_simple_extent_dims()
    head = f"{_type_words(kind)} {list(shape)}"
    if attribute.get_storage_size() > _MOST_BYTES:
        return f"{head} of {attribute.get_storage_size()} bytes"
    # What is of variable length has one value an axis; each of many could be as long as the file.
    is_short = prod(shape) <= MOST_DIMENSIONS
    if is_plain_hdf5_type(kind) or (is_short and _is_variable_text(kind)):
        values = np.empty(shape, kind.dtype)
        attribute.read(values)
        raw = values.tobytes() if values.dtype.kind == "S" else repr(values.tolist())
        return f"{head} {_shown(raw)}"
    # Scales: HDF5 stores them as references, whose bytes differ from file to file.
    if name == "DIMENSION_LIST" and is_short and _is_scale_list(kind):
        values = np.empty(shape, attribute.dtype)
        attribute.read(values)
        axes = [[names.target(item, one) for one in axis] for axis in values.ravel().tolist()]
        return f"{head} the scales {axes}"
    if name == "REFERENCE_LIST" and _is_user_list(kind):
        values = np.empty(shape, attribute.dtype)
        attribute.read(values)
        users = [(names.target(item, one), int(axis)) for one, axis in values.ravel().tolist()]
        return f"{head} the scale of {sorted(users)}"
    return f"{head} that no run has"


def _is_variable_text(kind: Any) -> bool:
    known = (h5py.h5t.CSET_ASCII, h5py.h5t.CSET_UTF8)
    return _is_text(kind) and kind.is_variable_str() and kind.get_cset() in known


def _is_scale_list(kind: Any) -> bool:
    return bool(kind.get_class() == h5py.h5t.VLEN and kind.get_super().equal(h5py.h5t.STD_REF_OBJ))


def _is_user_list(kind: Any) -> bool:
    """Tell whether a type is a reference to a dataset and the number of its axis."""
    if kind.get_class() != h5py.h5t.COMPOUND or kind.get_nmembers() != 2:
        return False
    dataset, axis = (kind.get_member_type(number) for number in range(2))
    is_number = axis.get_class() == h5py.h5t.INTEGER and is_plain_hdf5_type(axis)
    return bool(is_number and dataset.equal(h5py.h5t.STD_REF_OBJ))


class _Names:
    """Names of what references lead to; HDF5 would walk through the file again for each."""

    def __init__(self, root: Any, known: Mapping[str, str] | None) -> None:
        self._root = root
        self._known = known
        self._places: dict[int, str] = {}

    def target(self, item: Any, reference: Any) -> str:
        """Return the path of what ``reference``, stored with ``item``, leads to."""
        if not reference:
            return "nothing"
        if not self._places:
            self._list_places()
        try:
            found = h5py.h5r.dereference(reference, item)
            return self._places.get(h5py.h5o.get_info(found).addr, "nothing")
        # Its bytes are an address, which can be any number; h5py has many errors for that.
        except (OSError, RuntimeError, KeyError, ValueError, TypeError):
            return "nothing"

    def _list_places(self) -> None:
        self._places[h5py.h5o.get_info(self._root).addr] = "/"
        waiting = [("", self._root)]
        while waiting:
            path, group = waiting.pop()
            links = group.links
            for name in group:
                link, place = links.get_info(name), f"{path}/{_text(name)}"
                if link.type != h5py.h5l.TYPE_HARD or link.u in self._places:
                    continue
                self._places[link.u] = place
                # In groups that are not expected nothing is looked at.
                if self._known is None or self._known.get(place) == _GROUP:
                    item = h5py.h5o.open(group, name)
                    if isinstance(item, h5py.h5g.GroupID):
                        waiting.append((place, item))


def _type_words(kind: Any) -> str:
    if not _is_text(kind):
        if is_plain_hdf5_type(kind):
            return str(kind.dtype)
        return f"HDF5 class {kind.get_class()}, {kind.get_size()} bytes"
    size = "variable" if kind.is_variable_str() else kind.get_size()
    return f"text[{size}] of character set {kind.get_cset()}, padding {kind.get_strpad()}"


def _is_text(kind: Any) -> bool:
    return bool(kind.get_class() == h5py.h5t.STRING)


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")


def _shown(value: bytes | str) -> str:
    raw = value.encode("utf-8", "replace") if isinstance(value, str) else value
    text = value if isinstance(value, str) else raw.decode("utf-8", "backslashreplace")
    if len(text) <= _SHOWN:
        return repr(text)
    # The whole value counts, not its beginning alone.
    return f"{text[:_SHOWN]!r}... (SHA-256 {hashlib.sha256(raw).hexdigest()[:32]})"
