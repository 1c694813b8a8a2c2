"""Links that the index ``run.h5`` has: to the ranks' shards and to the owner's tables, no other."""

from __future__ import annotations

import re
from typing import Final

from clicooper_hpc.runstore.hdf5.vetting import LinkRules
from clicooper_hpc.runstore.run_folder import shard_file_name
from clicooper_hpc.runstore.tables.schema import CHECKPOINTS, EVALUATION, LEDGER, RELEASES

__all__ = ["INDEX_LINKS", "OWNER_LINKS"]

#: Names under which users look for tables of the owner, and the table behind each.
OWNER_LINKS: Final = {
    "evaluation": EVALUATION,
    "privacy/events": RELEASES,
    "provenance/ledger": LEDGER,
    "provenance/checkpoints": CHECKPOINTS,
}
_RANK: Final = re.compile(r"/ranks/(\d{3,5})")
_SHARD: Final = re.compile(r"rank-\d{3,5}\.h5")
_COLUMN: Final = re.compile(r"(ranks/\d{3,5}/)?(steps|training)/[a-z_]+")


def _is_index_link(place: str, file: str, target: str) -> bool:
    if not file:
        table = OWNER_LINKS.get(place.lstrip("/"))
        return table is not None and target == f"/ranks/000/{table.name}"
    rank = _RANK.fullmatch(place)
    return rank is not None and target == "/" and file == shard_file_name(int(rank[1]))


def _is_index_source(place: str, file: str, path: str) -> bool:
    # "." is the very file, in layout "single".
    known = file == "." or _SHARD.fullmatch(file) is not None
    return known and place.startswith("/metrics/") and _COLUMN.fullmatch(path) is not None


#: What `read_hdf5_file` allows the index; none of it is followed when a run is read.
INDEX_LINKS: Final = LinkRules(_is_index_link, _is_index_source)
