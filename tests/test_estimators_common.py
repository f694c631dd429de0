"""scikit-learn's own checks of an estimator: all of them, with default parameters, none expected to fail."""

from __future__ import annotations

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from numrnn import RNNClassifier, RNNRegressor


@parametrize_with_checks([RNNClassifier(), RNNRegressor()])
@pytest.mark.filterwarnings("ignore")
def test_check_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "check",
    [
        # Checks that scikit-learn runs on its own estimators only.
        "check_param_validation",
        "check_dataframe_column_names_consistency",
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
        "check_get_feature_names_out_error",
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_global_output_transform_pandas",
        "check_inplace_ensure_writeable",
    ],
)
@pytest.mark.parametrize("estimator", [RNNClassifier((4,), max_iter=2), RNNRegressor((4,), max_iter=2)])
@pytest.mark.filterwarnings("ignore")
def test_checks_of_scikit_learn_itself(estimator, check):
    if not hasattr(estimator_checks, check):
        pytest.skip(f"this version of scikit-learn has no {check}")
    getattr(estimator_checks, check)(type(estimator).__name__, estimator)
