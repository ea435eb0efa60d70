"""What a site brings for scikit-learn: an estimator, and its records."""

from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier

from p2pfl.adapters.sklearn import SklearnSite

ESTIMATORS = {
    "sgd": SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.01, random_state=1),
    "logistic": LogisticRegression(warm_start=True, max_iter=50),
    "mlp": MLPClassifier((8,), solver="sgd", learning_rate_init=0.05, random_state=1),
    "linear": LinearRegression(),
    "sgd-regressor": SGDRegressor(eta0=0.01, random_state=1),
}


def site(config):
    which = ESTIMATORS[config.get("estimator", "sgd")]
    number = which in (ESTIMATORS["linear"], ESTIMATORS["sgd-regressor"])
    x, y = (load_diabetes if number else load_breast_cancer)(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    y = (y - y.mean()) / y.std() if number else y
    part, parts = config.get("partition-id", 0), config.get("num-partitions", 3)
    x, y = x[part::parts], y[part::parts]
    cut = len(y) * 3 // 4
    classes = None if number else [0, 1]
    return SklearnSite(which, x[:cut], y[:cut], classes=classes, test=(x[cut:], y[cut:]))
