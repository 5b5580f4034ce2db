"""LightGBM's text format through its C interface: one thread, no Python between the matrix and the trees.

`Booster.predict` costs about 100 microseconds of Python a call and importing `lightgbm` half a second (it pulls in
pandas and scikit-learn); the library's documented C interface needs neither. Only where the wheel keeps the
library is private to it: when it is not there, the public `Booster` serves.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdv.errors import ConfigError, ModelUnloadable
from rdv.flavours import Predictor, check_features, width_of
from rdv.manifest import ModelInfo

if TYPE_CHECKING:
    from rdv.inputs import Matrix

_FLOAT64 = 1  # C_API_DTYPE_FLOAT64
_NORMAL = 0  # C_API_PREDICT_NORMAL
_ROW_MAJOR = 1
_ALL_TREES = -1
_PARAMETERS = b"num_threads=1 verbosity=-1"
_NAME_BYTES = 4096
# Up to here a call a row is cheaper than the matrix call, which parses its parameters and starts a region each time.
_SINGLE_ROWS = 6
_OBJECTIVES = {
    "probability": ("binary", "cross_entropy", "xentropy"),
    "labels": ("multiclass", "softmax", "multiclassova", "multiclass_ova", "ova", "ovr"),
}


def load(info: ModelInfo, file: Path) -> Predictor:
    """The predictor of a LightGBM text model; see `rdv.flavours.load_predictor`."""
    _check_objective(info, file)
    path = library_path()
    if path is None:
        return BoosterPredictor(info, file)
    return LightGBMPredictor(info, file, _library(path))


def library_path() -> str | None:
    """Where the installed wheel keeps its shared library, None when it is not in the known place."""
    spec = find_spec("lightgbm")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for place in ("lib/lib_lightgbm.so", "lib_lightgbm.so"):
            if (Path(folder) / place).is_file():
                return str(Path(folder) / place)
    return None


class LightGBMPredictor:
    """A model scored through the C interface."""

    def __init__(self, info: ModelInfo, file: Path, library: Any) -> None:
        self.width = width_of(info)
        self._lib, self._handle, self._fast = library, ctypes.c_void_p(), ctypes.c_void_p()
        iterations = ctypes.c_int()
        self._call(library.LGBM_BoosterLoadModelFromString, _text(file), iterations, self._handle)
        self._features = self._read_int(library.LGBM_BoosterGetNumFeature)
        check_features(file, info, self._feature_names())
        _check_width(file, self.width, self._read_int(library.LGBM_BoosterGetNumClasses))
        init = library.LGBM_BoosterPredictForMatSingleRowFastInit
        self._call(
            init, self._handle, _NORMAL, 0, _ALL_TREES, _FLOAT64, self._features, _PARAMETERS, ctypes.byref(self._fast)
        )
        self._written = ctypes.c_int64()
        self._written_at = ctypes.addressof(self._written)

    def __del__(self) -> None:
        if self._fast:
            self._lib.LGBM_FastConfigFree(self._fast)
        if self._handle:
            self._lib.LGBM_BoosterFree(self._handle)

    def predict(self, matrix: Matrix) -> Matrix:
        """Scores (n, width) of a matrix (n, d); see `rdv.flavours.Predictor`."""
        import numpy as np

        rows = np.ascontiguousarray(matrix, dtype=np.float64)
        n = rows.shape[0]
        if rows.ndim != 2 or rows.shape[1] != self._features:
            raise ModelUnloadable(f"the model reads {self._features} features, the matrix has shape {rows.shape}")
        out = np.empty((n, self.width), dtype=np.float64)
        source, target = rows.ctypes.data, out.ctypes.data
        if n <= _SINGLE_ROWS:
            self._each(n, source, target)
        else:
            self._whole(n, source, target)
        return out

    def _each(self, n: int, source: int, target: int) -> None:
        score, fast, written = self._lib.LGBM_BoosterPredictForMatSingleRowFast, self._fast, self._written_at
        for row in range(n):
            if score(fast, source + 8 * row * self._features, written, target + 8 * row * self.width):
                raise self._failure()

    def _whole(self, n: int, source: int, target: int) -> None:
        if self._lib.LGBM_BoosterPredictForMat(
            self._handle, source, _FLOAT64, n, self._features, _ROW_MAJOR, _NORMAL, 0, _ALL_TREES, _PARAMETERS,
            self._written_at, target,
        ):  # fmt: skip
            raise self._failure()

    def _read_int(self, function: Any) -> int:
        value = ctypes.c_int()
        self._call(function, self._handle, ctypes.byref(value))
        return value.value

    def _feature_names(self) -> list[str]:
        buffers = [ctypes.create_string_buffer(_NAME_BYTES) for _ in range(self._features)]
        pointers = (ctypes.c_void_p * self._features)(*(ctypes.addressof(buffer) for buffer in buffers))
        count, longest = ctypes.c_int(), ctypes.c_size_t()
        self._call(
            self._lib.LGBM_BoosterGetFeatureNames, self._handle, self._features, ctypes.byref(count),
            ctypes.c_size_t(_NAME_BYTES), ctypes.byref(longest), pointers,
        )  # fmt: skip
        return [buffer.value.decode("utf-8", "replace") for buffer in buffers]

    def _call(self, function: Any, *arguments: Any) -> None:
        if function(*arguments):
            raise self._failure()

    def _failure(self) -> ModelUnloadable:
        text = self._lib.LGBM_GetLastError().decode("utf-8", "replace")
        return ModelUnloadable(f"LightGBM refused: {text}", "publish the model again or roll back")


class BoosterPredictor:
    """The same model scored through the public `lightgbm.Booster`, for installs that keep the library elsewhere."""

    def __init__(self, info: ModelInfo, file: Path) -> None:
        import lightgbm

        self.width = width_of(info)
        try:
            self._booster = lightgbm.Booster(model_file=str(file))
        except lightgbm.basic.LightGBMError as error:
            raise ModelUnloadable(f"LightGBM refused: {error}", "publish the model again or roll back") from error
        check_features(file, info, self._booster.feature_name())
        _check_width(file, self.width, max(1, self._booster.num_model_per_iteration()))

    def predict(self, matrix: Matrix) -> Matrix:
        """Scores (n, width) of a matrix (n, d); see `rdv.flavours.Predictor`."""
        import lightgbm
        import numpy as np

        if not len(matrix):
            return np.empty((0, self.width), dtype=np.float64)
        try:
            scores = self._booster.predict(matrix, num_threads=1)
        except (lightgbm.basic.LightGBMError, ValueError) as error:
            raise ModelUnloadable(f"LightGBM refused: {error}") from error
        return np.asarray(scores, dtype=np.float64).reshape(len(matrix), self.width)


@cache
def _library(path: str) -> Any:
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise ConfigError(
            f"LightGBM's library cannot be loaded: {error}", "type: apt-get install libgomp1 (or your system's libgomp)"
        ) from error
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    integer, pointer, text = ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p
    library.LGBM_BoosterLoadModelFromString.argtypes = [text, ctypes.POINTER(integer), ctypes.POINTER(pointer)]
    library.LGBM_BoosterPredictForMatSingleRowFast.argtypes = [pointer, pointer, pointer, pointer]
    library.LGBM_BoosterPredictForMat.argtypes = [
        pointer, pointer, integer, ctypes.c_int32, ctypes.c_int32, integer, integer, integer, integer, text,
        pointer, pointer,
    ]  # fmt: skip
    return library


def _text(file: Path) -> bytes:
    """The model's text. The library reads a file through a buffer of 16 MB, which costs more than a small model."""
    data = file.read_bytes()
    if b"\0" in data:
        raise ModelUnloadable(f"{file.name} is no LightGBM text: it holds a zero byte", "publish the model again")
    return data


def _check_objective(info: ModelInfo, file: Path) -> None:
    """Return when the file's objective yields the manifest's kind of score; a probability is none without its link."""
    allowed = _OBJECTIVES.get(info.kind)
    objective = _objective(file)
    others = {name for names in _OBJECTIVES.values() for name in names}
    if (objective not in allowed) if allowed else (objective in others):
        raise ModelUnloadable(
            f"{file.name} was trained for the objective {objective or 'none'!r}, which does not yield a {info.kind}",
            "train with an objective of the model's kind",
        )


def _objective(file: Path) -> str:
    with file.open("rb") as lines:
        for line in lines:
            if line.startswith(b"objective="):
                words = line[len(b"objective=") :].split()
                return words[0].decode("utf-8", "replace") if words else ""
            if line.startswith(b"Tree="):
                break
    return ""


def _check_width(file: Path, wanted: int, found: int) -> None:
    if wanted != found:
        raise ModelUnloadable(
            f"{file.name} yields {found} scores a row, its manifest says {wanted}", "train and publish the model again"
        )
