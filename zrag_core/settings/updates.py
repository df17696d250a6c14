"""The section `updates`."""

from __future__ import annotations

from pydantic import Field

from zrag_core.settings.section import Positive, Rate, Section, Share


class UpdateSettings(Section):
    """How the memory follows a corpus that changes, and when it is made afresh."""

    settle_seconds: Rate = Field(
        30.0, description="a changed corpus is acted on when nothing more has changed for this long"
    )
    retrain_share: Share = Field(
        0.3, description="share of the corpus changed since the last full run above which everything is run afresh"
    )
    least_margin_share: Share = Field(
        0.5, description="share of its value after the last full run that the routing margin may fall to"
    )
    coverage_drop: Share = Field(
        0.05, description="most that coverage on the probe questions may fall since the last full run"
    )
    non_inferiority: Share = Field(
        0.02, description="most coverage that a new champion may lose, at the lower bound of the paired difference"
    )
    old_sample: Positive = Field(
        100, description="questions about untouched documents that are asked before and after an update"
    )
