"""What the parts of a data set have in common that they should not, and what reading them met."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from .dataset import Dataset
from .pictures import Findings

__all__ = ["Audit", "audit"]


@dataclass
class Audit:
    """`str` of it is a report.

    Attributes:
        across: groups of samples with bit-equal inputs that stand in more than one part, as "part/sample";
            what is learned from one is no evidence about its twin.
        within: groups within one part.
        conflicts: those of both kinds whose targets differ.
        parts: how many samples each part has.
        findings: part -> what reading its pictures met.
    """

    across: list[list[str]] = field(default_factory=list)
    within: list[list[str]] = field(default_factory=list)
    conflicts: list[list[str]] = field(default_factory=list)
    parts: dict[str, int] = field(default_factory=dict)
    findings: dict[str, Findings] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = []
        for part, count in self.parts.items():
            lines.append(f"{part}: {count:,} samples")
            if part in self.findings:
                lines += [f"    {line}" for line in str(self.findings[part]).splitlines()]
        for groups, what in (
            (self.across, "in more than one part"),
            (self.within, "within one part"),
            (self.conflicts, "with different targets"),
        ):
            lines.append(f"{len(groups):,} groups of exact duplicates {what}")
            lines += [f"    {' = '.join(group)}" for group in groups[:5]]
        return "\n".join(lines)


def audit(**parts: Dataset) -> Audit:
    """Exact duplicates within and across the parts of a data set, and what was met when they were read.

        print(audit(train=train, validation=validation, test=test))

    Duplicates are samples whose inputs are the same bits in the same shape, whatever file they came from;
    scans of one patient, or a picture saved twice as JPEG, are not found.
    """
    result = Audit(parts={part: len(dataset) for part, dataset in parts.items()})
    groups: dict[bytes, list[tuple[str, str, bytes]]] = {}
    for part, dataset in parts.items():
        if isinstance(met := getattr(dataset, "met", None), Findings):
            result.findings[part] = met
        inputs, targets = dataset.inputs, dataset.targets
        for i in range(len(dataset)):
            key = _digest(inputs[i])
            name = dataset.sample_names[i] if dataset.sample_names else str(i)
            target = b"" if targets is None else np.asarray(targets[i]).tobytes()
            groups.setdefault(key, []).append((part, f"{part}/{name}", target))
    for group in groups.values():
        if len(group) > 1:
            names = [name for _, name, _ in group]
            several = len({part for part, _, _ in group}) > 1
            (result.across if several else result.within).append(names)
            if len({target for _, _, target in group}) > 1:
                result.conflicts.append(names)
    return result


def _digest(sample: np.ndarray) -> bytes:
    head = f"{sample.dtype.str} {sample.shape} ".encode()
    return hashlib.blake2b(head + sample.tobytes(), digest_size=16).digest()
