"""scikit-learn's own checks of an estimator: all of them, with default parameters.

None is expected to fail but those of the anomaly detector that contradict what it is, each with its reason.
"""

from __future__ import annotations

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from numrnn import Convolution, RNNAnomalyDetector, RNNClassifier, RNNRegressor, RNNTagger


@parametrize_with_checks([RNNClassifier(), RNNRegressor()])
@pytest.mark.filterwarnings("ignore")
def test_check_estimator(estimator, check):
    check(estimator)


_ROWS_ARE_TIME_STEPS = (
    "the rows of a matrix are the time steps of one series: what a row is worth depends on those before"
)


def _contradictions(estimator):
    return {
        "check_methods_sample_order_invariance": _ROWS_ARE_TIME_STEPS,
        "check_methods_subset_invariance": _ROWS_ARE_TIME_STEPS,
        "check_fit1d": "an array of one dimension is a series of one number per time step, and welcome",
    }


@parametrize_with_checks(
    [
        RNNAnomalyDetector((4,), window_length=3, max_iter=3),
        RNNAnomalyDetector((4,), window_length=3, max_iter=3, method="reconstruction"),
    ],
    expected_failed_checks=_contradictions,
)
@pytest.mark.filterwarnings("ignore")
def test_check_anomaly_detector(estimator, check):
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
@pytest.mark.parametrize(
    "estimator",
    [
        RNNClassifier((4,), max_iter=2),
        RNNRegressor((4,), max_iter=2),
        RNNAnomalyDetector((4,), window_length=3, max_iter=2),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_checks_of_scikit_learn_itself(estimator, check):
    if not hasattr(estimator_checks, check):
        pytest.skip(f"this version of scikit-learn has no {check}")
    if ("transform" in check or "feature_names_out" in check) and not hasattr(estimator, "transform"):
        pytest.skip(f"{type(estimator).__name__} transforms nothing")
    getattr(estimator_checks, check)(type(estimator).__name__, estimator)


@pytest.mark.parametrize(
    "check",
    [
        # Those that do not fit the estimator on a matrix and one label a row, which a tagger does not take.
        "check_estimator_cloneable",
        "check_estimator_get_tags_default_keys",
        "check_estimator_repr",
        "check_estimator_tags_renamed",
        "check_estimators_unfitted",
        "check_do_not_raise_errors_in_init_or_set_param",
        "check_get_params_invariance",
        "check_mixin_order",
        "check_no_attributes_set_in_init",
        "check_param_validation",
        "check_parameters_default_constructible",
        "check_set_params",
        "check_valid_tag_types",
    ],
)
@pytest.mark.parametrize("estimator", [RNNTagger((4,), max_iter=2), Convolution()])
@pytest.mark.filterwarnings("ignore")
def test_checks_that_suit_other_data(estimator, check):
    if not hasattr(estimator_checks, check):
        pytest.skip(f"this version of scikit-learn has no {check}")
    if isinstance(estimator, Convolution) and check in ("check_param_validation", "check_estimators_unfitted"):
        pytest.skip("a convolution is not fitted")
    getattr(estimator_checks, check)(type(estimator).__name__, estimator)
