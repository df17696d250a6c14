"""Making the systems of a run, one at a time, from what was written before: checkpoints, indexes and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zrag_core.answering.ledger import SpendingLedger
from zrag_core.corpus.types import Corpus, EvidenceTarget
from zrag_core.evidence import EvidenceSystem
from zrag_core.settings import Settings
from zrag_core.systems import SystemSpec, resolve, system_spec


@dataclass(frozen=True)
class SystemInputs:
    """Everything that a system may be made from.

    Attributes:
        checkpoints: checkpoint folders by policy.
        indexes: index folders by kind (bm25, dense) and by what they index (passage, sentence).
        folder: where systems may keep files of their own between runs.
        answer_cache: file of the cache of answers, for systems that ask an LLM.
        ledger: holds the spending limit over all of these.
        environ: where the LLM's key is.
    """

    settings: Settings
    corpus: Corpus
    targets: Sequence[EvidenceTarget]
    checkpoints: Mapping[str, Path]
    indexes: Mapping[str, Mapping[str, Path]]
    folder: Path
    answer_cache: Path
    ledger: SpendingLedger
    environ: Mapping[str, str]

    def spec(self, name: str) -> SystemSpec:
        """Return the spec of a system under these settings."""
        return system_spec(name, self.settings)

    def make(self, name: str) -> EvidenceSystem:
        """Make a system by its registered name."""
        spec = self.spec(name)
        system: EvidenceSystem = resolve(spec.make)(spec, self)
        return system
