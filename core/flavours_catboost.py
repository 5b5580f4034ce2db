"""CatBoost's cbm format, and the one way in which an encoder's matrix becomes CatBoost's input.

CatBoost wants categories as text and would take wrong numbers of features without a word, so training and serving
both come through `catboost_frame`, and the file's features are compared with the manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdv.errors import ModelUnloadable
from rdv.flavours import Predictor, check_features, width_of
from rdv.manifest import ModelInfo

if TYPE_CHECKING:
    from rdv.inputs import Matrix

MISSING = "missing"
# A matrix of objects is the quickest way in for a batch of requests; for a data set it would take 40 bytes a value.
_OBJECT_ROWS = 4096
_PREDICTION = {"probability": "Probability", "labels": "Probability", "number": "RawFormulaVal"}


def catboost_frame(matrix: Matrix, categorical: Sequence[int]) -> Any:
    """An encoder's matrix (n, d) as the data argument of a `catboost.Pool`, columns in the same order.

    categorical: the columns that hold category codes; they become the text of the whole number (`"3"`), NaN becomes
    `"missing"`. Pass the same columns as the Pool's `cat_features`. Equal values give an equal Pool whatever n is.
    """
    import numpy as np

    if not len(categorical):
        return matrix
    if len(matrix) > _OBJECT_ROWS:
        return _data_frame(matrix, categorical)
    frame = np.empty(matrix.shape, dtype=object)
    frame[:] = matrix
    for column in categorical:
        frame[:, column] = _texts(matrix[:, column])
    return frame


def load(info: ModelInfo, file: Path) -> Predictor:
    """The predictor of a CatBoost cbm model; see `rdv.flavours.load_predictor`."""
    return CatBoostPredictor(info, file)


class CatBoostPredictor:
    """A loaded CatBoost model."""

    def __init__(self, info: ModelInfo, file: Path) -> None:
        import catboost

        self._error, self._pool = catboost.CatBoostError, catboost.Pool
        self._model, self._kind = catboost.CatBoost(), info.kind
        self.width, self._categorical = width_of(info), list(info.inputs.categorical())
        try:
            self._model.load_model(str(file), format="cbm")
        except catboost.CatBoostError as error:
            raise ModelUnloadable(f"CatBoost refused {file.name}: {error}", "publish it again or roll back") from error
        self._check_inputs(info, file)
        classes: Any = self._model.classes_
        self._order = _label_order(info, file, list(classes))

    def predict(self, matrix: Matrix) -> Matrix:
        """Scores (n, width) of a matrix (n, d); see `rdv.flavours.Predictor`."""
        import numpy as np

        if matrix.ndim != 2 or matrix.shape[1] != self._features:
            raise ModelUnloadable(f"the model reads {self._features} features, the matrix has shape {matrix.shape}")
        if not len(matrix):
            return np.empty((0, self.width), dtype=np.float64)
        try:
            frame = catboost_frame(matrix, self._categorical)
            pool = self._pool(frame, cat_features=self._categorical or None)
            found = self._model.predict(pool, prediction_type=_PREDICTION[self._kind], thread_count=1)
        except self._error as error:
            raise ModelUnloadable(f"CatBoost refused: {error}") from error
        scores = np.asarray(found, dtype=np.float64).reshape(len(matrix), -1)
        return scores if self._order is None else np.ascontiguousarray(scores[:, self._order])

    def _check_inputs(self, info: ModelInfo, file: Path) -> None:
        names = list(self._model.feature_names_ or [])
        check_features(file, info, names)
        self._features = len(names)
        found = sorted(self._model.get_cat_feature_indices())
        if found != self._categorical:
            raise ModelUnloadable(
                f"{file.name} has categories in the columns {found}, its manifest in {self._categorical}",
                "train and publish the model again",
            )


def _label_order(info: ModelInfo, file: Path, classes: list[Any]) -> list[int] | None:
    """Which of the library's columns to answer, in order; None for all of a number's.

    classes: the labels as the file has them: text is matched with the manifest's labels, anything else must be the
    codes 0..k-1 in the manifest's order, the positive class of two being 1.
    """
    if info.kind == "number":
        if classes:
            raise ModelUnloadable(f"{file.name} is a classifier of {len(classes)} labels, its manifest says a number")
        return None
    wanted = [info.positive] if info.kind == "probability" else list(info.labels)
    count = 2 if info.kind == "probability" else len(wanted)
    if len(classes) == count and all(isinstance(one, str) for one in classes) and set(wanted) <= set(classes):
        return [classes.index(one) for one in wanted]
    if [str(one) for one in classes] == [str(code) for code in range(count)]:
        return [1] if info.kind == "probability" else list(range(count))
    raise ModelUnloadable(
        f"{file.name} has the labels {classes}, its manifest says {wanted}", "train and publish the model again"
    )


def _codes(values: Any) -> Any:
    """Category codes as whole numbers, 0 for missing, n + 1 for code n."""
    import numpy as np

    return np.where(np.isnan(values), 0.0, values + 1.0).astype(np.intp)


def _names(codes: Any) -> list[str]:
    return [MISSING, *(str(code) for code in range(int(codes.max(initial=0))))]


def _texts(values: Any) -> Any:
    import numpy as np

    codes = _codes(values)
    return np.array(_names(codes), dtype=object)[codes]


def _data_frame(matrix: Matrix, categorical: Sequence[int]) -> Any:
    import pandas  # type: ignore[import-untyped]  # comes with catboost, without types

    columns: dict[int, Any] = {at: matrix[:, at] for at in range(matrix.shape[1])}
    for at in categorical:
        codes = _codes(matrix[:, at])
        columns[at] = pandas.Categorical.from_codes(codes, categories=_names(codes))
    return pandas.DataFrame(columns, copy=False)
