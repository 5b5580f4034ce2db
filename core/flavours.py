"""The one place that turns a model file into something that computes scores.

Native formats only: what is read here is data, never code. A file must have been checked against its manifest's
SHA-256 before it is handed to `load_predictor`, because no library survives every damaged file (see
`rdv.serving.worker.probe`).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rdv.errors import ConfigError, ModelUnloadable
from rdv.manifest import ModelInfo

if TYPE_CHECKING:
    from rdv.inputs import Matrix

_LOADERS = {
    "lightgbm": "rdv.flavours_lightgbm:load",
    "catboost": "rdv.flavours_catboost:load",
    "sum": "rdv.flavours_sum:load",
}
_KINDS = ("probability", "labels", "number")


class Predictor(Protocol):
    """A loaded model. width: scores a row; 1 for a probability and a number, one a label otherwise."""

    width: int

    def predict(self, matrix: Matrix) -> Matrix:
        """Scores (n, width) float64 of an encoder's matrix (n, d) float64, row-major, n >= 0; computed by one thread.

        One row's scores do not depend on the rows beside it, to the last bit. Raises ModelUnloadable when the
        library cannot score it. Not to be called by two threads at once.
        """
        ...


def load_predictor(info: ModelInfo, file: Path) -> Predictor:
    """The model in `file`, checked against what its manifest says about features, kind and width.

    Raises ModelUnloadable when the file cannot be read or contradicts the manifest, ConfigError for an unknown
    flavour or one whose library is not installed. A damaged file may kill or hang the process: probe it first.
    """
    if info.kind not in _KINDS:
        raise ModelUnloadable(f"the manifest gives {file.name} the unknown kind {info.kind!r}", f"known: {_KINDS}")
    if info.flavour not in _LOADERS:
        known = ", ".join(sorted(_LOADERS))
        raise ConfigError(f"unknown flavour {info.flavour!r}", f"known flavours: {known}")
    module, name = _LOADERS[info.flavour].split(":")
    try:
        load = getattr(import_module(module), name)
        predictor: Predictor = load(info, file)
    except ImportError as error:
        raise ConfigError(
            f"flavour {info.flavour!r} needs a library that is missing: {error}", f"type: pip install {info.flavour}"
        ) from error
    return predictor


def width_of(info: ModelInfo) -> int:
    """How many scores a row of this model has."""
    return len(info.labels) if info.kind == "labels" else 1


def check_features(file: Path, info: ModelInfo, names: Sequence[str]) -> None:
    """Return when the features a file names are the manifest's inputs in the manifest's order.

    names: one a feature of the file; empty ones and the library's own placeholders (`Column_0`, `0`) only count.
    Raises ModelUnloadable naming the first difference.
    """
    wanted = info.inputs.names()
    if len(names) != len(wanted):
        raise ModelUnloadable(
            f"{file.name} reads {len(names)} features, its manifest lists {len(wanted)} inputs",
            "train and publish the model again",
        )
    for at, (found, name) in enumerate(zip(names, wanted, strict=True)):
        if found not in ("", str(at), f"Column_{at}") and _plain(found) != _plain(name):
            raise ModelUnloadable(
                f"feature {at} of {file.name} is {found!r}, its manifest says {name!r}",
                "train and publish the model again",
            )


def _plain(name: str) -> str:
    """A feature name as LightGBM writes it, which cannot hold white space."""
    return "_".join(name.split(" "))
