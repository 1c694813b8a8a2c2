"""The job as one frozen value, and its canonical text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator

from clicooper_hpc.config.data_section import DataSection
from clicooper_hpc.config.owner_sections import (
    FrontSection,
    LabelsSection,
    ReleaseSection,
)
from clicooper_hpc.config.privacy_section import PrivacySection
from clicooper_hpc.config.section import Section
from clicooper_hpc.config.shared_sections import (
    CheckpointSection,
    ModelSection,
    OutputSection,
    PipelineSection,
    ProvenanceSection,
    TrainingSection,
)
from clicooper_hpc.config.slurm_section import SlurmSection
from clicooper_hpc.digests import Digest, digest_bytes
from clicooper_hpc.errors import UsageError

__all__ = ["EXECUTION_KEYS", "Job"]

#: Keys that say how a run is carried out, not what it computes: a restart may have others.
EXECUTION_KEYS: Mapping[str, Sequence[str]] = {
    "checkpoint": ("every_steps", "keep", "stop_after_min"),
    "pipeline": ("startup_timeout_s", "timeout_s"),
}

#: Keys of ``release`` that one mode alone has a meaning for.
_OF_GRADIENTS = ("rounds", "gradient_share", "gradient_step")


class Job(Section):
    """A whole job, resolved: defaults filled in, `extends` and `--set` applied."""

    data: DataSection
    front: FrontSection = FrontSection()
    privacy: PrivacySection = PrivacySection()
    release: ReleaseSection = ReleaseSection()
    labels: LabelsSection = LabelsSection()
    model: ModelSection = ModelSection()
    pipeline: PipelineSection = PipelineSection()
    training: TrainingSection = TrainingSection()
    provenance: ProvenanceSection = ProvenanceSection()
    checkpoint: CheckpointSection = CheckpointSection()
    output: OutputSection = OutputSection()
    # How a run got its nodes is nobody else's business and changes no bit of it: not in the digest.
    slurm: SlurmSection = Field(default=SlurmSection(), exclude=True)
    # Where the user's modules lie differs from machine to machine: not in the digest either.
    folder: str = Field(default=".", exclude=True)

    @model_validator(mode="after")
    def _consistent(self) -> Job:
        # An empty micro-batch would be a message without rows.
        if self.pipeline.micro_batches > self.training.batch_size:
            raise ValueError(
                f"pipeline.micro_batches = {self.pipeline.micro_batches} is more than "
                f"training.batch_size = {self.training.batch_size}"
            )
        if self.front.projection == "private-lda" and self.privacy.unit != "sample":
            raise ValueError(
                'front.projection = "private-lda" spends whole samples: it needs privacy.unit = '
                f'"sample", not "{self.privacy.unit}"'
            )
        self._check_summed_release()
        cuts = self.pipeline.partition
        if isinstance(cuts, list) and self.pipeline.segments not in (None, len(cuts) + 1):
            raise ValueError(
                f"pipeline.partition has {len(cuts)} cuts, which makes {len(cuts) + 1} segments, "
                f"but pipeline.segments = {self.pipeline.segments}"
            )
        return self

    def _check_summed_release(self) -> None:
        """Refuse what the modes that sum up all samples have no meaning for."""
        mode = self.release.mode
        if mode != "gradients":
            for key in _OF_GRADIENTS:
                if getattr(self.release, key) != ReleaseSection.model_fields[key].default:
                    raise ValueError(
                        f'release.{key} needs release.mode = "gradients", whose rounds it is about'
                    )
        if mode == "rows":
            for key, off in (("mixes", 0), ("sharpness", 1.0)):
                if getattr(self.release, key) != off:
                    raise ValueError(
                        f"release.{key} needs a release.mode that sums up all samples, "
                        "whose public rows it is about"
                    )
            return
        wanted: tuple[tuple[str, object, object, str], ...] = (
            ("front.projection", self.front.projection, "pca", "its public rows are sent"),
            ("front.normalise", self.front.normalise, True, "sums are those of rows of norm 1"),
            ("privacy.clip", self.privacy.clip, 1.0, "sums are those of rows of norm 1"),
            ("privacy.unit", self.privacy.unit, "sample", "they cover whole samples"),
            ("privacy.relation", self.privacy.relation, "replace-one", "2 C bounds this one"),
            ("labels.expansion", self.labels.expansion, 1, "there are no samples to group"),
            (
                "labels.randomized_response_epsilon",
                self.labels.randomized_response_epsilon,
                None,
                "the noise covers labels already",
            ),
            ("data.validation_rows", self.data.validation_rows, 0, "no sample leaves"),
        )
        for key, value, needed, why in wanted:
            if value != needed:
                given, must = (json.dumps(one) for one in (value, needed))
                # TOML has no null: an absent key is the default.
                must = "no value" if needed is None else must
                raise ValueError(
                    f'release.mode = "{mode}" needs {key} = {must}, not {given}: {why}'
                )
        if self.front.kind == "dp-sgd":
            raise ValueError(
                f'release.mode = "{mode}" needs a public front, not front.kind = "dp-sgd"'
            )

    def canonical(self) -> str:
        """Return the resolved job as sorted JSON: stored in every run, and what is digested."""
        # Sorted and without blanks: one job has one text, so ranks can compare digests of it.
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def cut_at(self, cuts: Sequence[int]) -> Job:
        """Return the same job with the network cut before these layers."""
        # `model_copy` does not validate; the cuts come from a layout that was checked.
        pipeline = self.pipeline.model_copy(update={"partition": [*cuts]})
        return self.model_copy(update={"pipeline": pipeline})

    def with_execution_of(self, other: Job) -> Job:
        """Return the same job, carried out the way ``other`` says (`EXECUTION_KEYS`)."""
        sections = {
            name: getattr(self, name).model_copy(
                update={key: getattr(getattr(other, name), key) for key in keys}
            )
            for name, keys in EXECUTION_KEYS.items()
        }
        return self.model_copy(update=sections)

    def first_difference(self, stored: Mapping[str, Any]) -> tuple[str, object, object] | None:
        """Return the first key at which ``stored``, a resolved job, is another job than this one.

        Returns
        -------
        tuple or None
            ``section.key``, its value there and here; None if they are the same job, but perhaps
            for how it is carried out (`EXECUTION_KEYS`).
        """
        # Compared as resolved values, not as text: defaults and bases spelt out are the same job.
        given = json.loads(self.canonical())
        for section in sorted(stored.keys() | given.keys()):
            then, now = stored.get(section, {}), given.get(section, {})
            if not isinstance(then, Mapping):
                return section, then, now
            for key in sorted(then.keys() | now.keys()):
                # A time limit that was too short must not cost a second release.
                if then.get(key) != now.get(key) and key not in EXECUTION_KEYS.get(section, ()):
                    return f"{section}.{key}", then.get(key), now.get(key)
        return None

    def digest(self) -> Digest:
        """Return the digest of the canonical text."""
        return digest_bytes("clicooper/v1/job", self.canonical().encode())

    def wanted_segments(self) -> int | None:
        """Return the number of segments the job asks for, ``None`` if it leaves it to the ranks."""
        if isinstance(self.pipeline.partition, list):
            return len(self.pipeline.partition) + 1
        return self.pipeline.segments

    def check_ranks(self, ranks: int, *, option: str | None = None) -> int:
        """Return the number of segments for ``ranks`` MPI ranks, or say how many there must be.

        ``option``: where their number was given, if no launcher has started them.
        """
        wanted = self.wanted_segments()
        if wanted is not None and ranks != wanted + 1:
            s = "s" * (wanted != 1)
            raise UsageError(
                f"the job has {wanted} segment{s}, so it needs {wanted + 1} ranks "
                f"(one owner, {wanted} trainer{s}), not {ranks}",
                where=option,
                remedy=f"Start it with: mpirun -n {wanted + 1} clicooper run JOB.toml"
                if option is None
                else f"Give {wanted + 1}, or leave it out.",
            )
        if ranks < 2:
            raise UsageError(
                f"a run needs at least 2 ranks, one owner and one trainer, not {ranks}",
                where=option,
                remedy="Start it with: mpirun -n 4 clicooper run JOB.toml"
                if option is None
                else "Give one more than there are trainers.",
            )
        return ranks - 1
