"""What `rdv replay` shows of a version on recorded requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rdv.cli.model_views import find_version

if TYPE_CHECKING:
    from rdv.config import Project
    from rdv.serving.recording.comparison import Column
    from rdv.serving.recording.replay import ReplayReport

SIDES = ["quantile", "replayed", "recorded", "difference"]


def run(project: Project, model: str, version: str, against: str, last: int) -> ReplayReport:
    """The newest recorded requests through a version, named as `model_views.resolve` takes it, or else the newest."""
    from rdv.serving.recording.replay import replay

    return replay(project, model, find_version(project, model, version or "newest").version, against, last)


def summary(found: ReplayReport) -> dict[str, Any]:
    """The figures to read first."""
    column = found.comparison.columns[0] if found.comparison.columns else None
    return {
        "model": found.model,
        "version": found.version,
        "requests": found.rows,
        "compared_with": found.against,
        "its_versions": found.against_versions,
        "compared": found.comparison.requests,
        "agreement": found.comparison.agreement,
        "mean_difference": column.mean_difference if column else None,
        "largest_difference": column.largest_distance if column else None,
        "without_a_score": found.unusable,
        "not_scorable": found.unfit,
        "p50_ms": found.timing.single_p50_ms,
        "p99_ms": found.timing.single_p99_ms,
    }


def quantiles(found: ReplayReport, column: Column) -> list[dict[str, Any]]:
    """Both distributions of scores side by side, a record a quantile."""
    return [
        {
            "quantile": f"p{round(100 * one.q):02}",
            "replayed": one.score,
            "recorded": one.other,
            "difference": one.score - one.other,
        }
        for one in column.quantiles
    ]
