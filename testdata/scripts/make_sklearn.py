"""Trains small models of scikit-learn on seeded numbers, exports them by skl2onnx
as its users do (so classifiers end in ZipMap) and records what ONNX Runtime
computes, in ONNX's own layout, below testdata/ops/sklearn. `ssdc conformance
testdata/ops/sklearn` runs them, and so do the tests.

    python testdata/scripts/make_sklearn.py [NAME-PREFIX]

Versions: requirements-sklearn.txt in this folder.
"""

import pathlib
import sys
import warnings

import numpy as np
import onnx
import onnxruntime as ort
import skl2onnx
import sklearn
from make_ops import encode
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DictionaryType, FloatTensorType, Int64TensorType, StringTensorType
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.compose import ColumnTransformer
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import (AdaBoostClassifier, BaggingClassifier, ExtraTreesClassifier, ExtraTreesRegressor, GradientBoostingClassifier,
                              GradientBoostingRegressor,
                              IsolationForest, RandomForestClassifier, RandomForestRegressor,
                              StackingClassifier, VotingClassifier)
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import ElasticNet, LinearRegression, LogisticRegression, PoissonRegressor, Ridge, RidgeClassifier, SGDClassifier
from sklearn.mixture import GaussianMixture
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import BernoulliNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, LocalOutlierFactor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (Binarizer, FunctionTransformer, KBinsDiscretizer, LabelBinarizer, LabelEncoder, MaxAbsScaler, MinMaxScaler, Normalizer,
                                   OneHotEncoder, OrdinalEncoder, PolynomialFeatures, PowerTransformer, QuantileTransformer, RobustScaler, StandardScaler)
from sklearn.svm import SVC, SVR, LinearSVC, NuSVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

OUT = pathlib.Path(__file__).resolve().parent.parent / "ops" / "sklearn"
ONLY = sys.argv[1] if len(sys.argv) > 1 else ""
OPSET = {"": 21, "ai.onnx.ml": 3}

rng = np.random.default_rng(4)
X = rng.standard_normal((80, 4)).astype(np.float32)
SCORE = X @ rng.standard_normal((4, 3)).astype(np.float32) + 0.3 * rng.standard_normal((80, 3))
THREE = SCORE.argmax(1)  # classes 0, 1, 2
WORDS = np.array(["setosa", "Virginica", "éclair"])[THREE]
TWO = (SCORE[:, 0] > 0).astype(np.int64)
REAL = (SCORE[:, 0] + np.sin(X[:, 1])).astype(np.float32)
NEW = rng.standard_normal((7, 4)).astype(np.float32)
COLOURS = rng.choice(["red", "green", "blue"], (80, 1))
TEXT = np.array(["The cat sat on the mat", "a dog, and a CAT", "dogs do not sit", "mats are flat!"] * 20)
DICTS = [{"length": float(a), f"colour={c[0]}": 1.0} for a, c in zip(X[:, 0], COLOURS)]


def classifiers():
    yield "logistic_words", LogisticRegression(), WORDS
    yield "logistic_two", LogisticRegression(), TWO
    yield "ridge_classifier", RidgeClassifier(), THREE
    yield "sgd", SGDClassifier(loss="log_loss", random_state=0), THREE
    yield "decision_tree", DecisionTreeClassifier(max_depth=4, random_state=0), WORDS
    yield "random_forest", RandomForestClassifier(n_estimators=6, max_depth=4, random_state=0), THREE
    yield "random_forest_words", RandomForestClassifier(n_estimators=6, max_depth=4, random_state=0), WORDS
    yield "extra_trees", ExtraTreesClassifier(n_estimators=5, max_depth=3, random_state=0), TWO
    yield "gradient_boosting", GradientBoostingClassifier(n_estimators=5, max_depth=2, random_state=0), THREE
    yield "gradient_boosting_two", GradientBoostingClassifier(n_estimators=5, max_depth=2, random_state=0), TWO
    yield "ada_boost", AdaBoostClassifier(n_estimators=4, random_state=0), THREE
    yield "bagging", BaggingClassifier(DecisionTreeClassifier(max_depth=3), n_estimators=4, random_state=0), THREE
    yield "svc", SVC(), THREE
    yield "svc_two", SVC(kernel="poly", degree=2), TWO
    yield "svc_words", SVC(kernel="linear"), WORDS
    yield "nu_svc", NuSVC(nu=0.2), TWO
    yield "linear_svc", LinearSVC(), THREE
    yield "neighbours", KNeighborsClassifier(3), WORDS
    yield "neighbours_two", KNeighborsClassifier(5, weights="distance"), TWO
    yield "mlp", MLPClassifier((5,), max_iter=50, random_state=0), THREE
    yield "gaussian_nb", GaussianNB(), WORDS
    yield "bernoulli_nb", BernoulliNB(), THREE
    yield "lda", LinearDiscriminantAnalysis(), THREE
    yield "qda", QuadraticDiscriminantAnalysis(), THREE
    yield "one_vs_rest", OneVsRestClassifier(LogisticRegression()), THREE
    yield "calibrated", CalibratedClassifierCV(LogisticRegression(), cv=2), THREE
    yield "voting", VotingClassifier([("a", LogisticRegression()), ("b", DecisionTreeClassifier(max_depth=3, random_state=0))], voting="soft", flatten_transform=False), THREE
    yield "stacking", StackingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], cv=2), THREE
    yield "scaled_logistic", make_pipeline(StandardScaler(), PCA(3), LogisticRegression()), WORDS
    yield "multi_output", MultiOutputClassifier(LogisticRegression()), np.stack([TWO, THREE], 1)


def others():
    yield "linear_regression", LinearRegression(), REAL
    yield "ridge", Ridge(), np.stack([REAL, -REAL], 1)
    yield "elastic_net", ElasticNet(0.1), REAL
    yield "poisson", PoissonRegressor(), np.exp(REAL / 4)
    yield "tree_regressor", DecisionTreeRegressor(max_depth=4, random_state=0), REAL
    yield "forest_regressor", RandomForestRegressor(n_estimators=5, max_depth=4, random_state=0), REAL
    yield "boosting_regressor", GradientBoostingRegressor(n_estimators=5, max_depth=2, random_state=0), REAL
    yield "svr", SVR(), REAL
    yield "one_class_svm", OneClassSVM(), None
    yield "neighbours_regressor", KNeighborsRegressor(3), REAL
    yield "outlier_factor", LocalOutlierFactor(novelty=True), None
    yield "isolation_forest", IsolationForest(n_estimators=5, max_samples=16, random_state=0), None
    yield "mlp_regressor", MLPRegressor(hidden_layer_sizes=(5,), max_iter=50, random_state=0), REAL
    yield "gaussian_process_regressor", GaussianProcessRegressor(alpha=0.1), REAL
    yield "kmeans", KMeans(3, n_init=1, random_state=0), None
    yield "minibatch_kmeans", MiniBatchKMeans(3, n_init=1, random_state=0), None
    yield "mixture", GaussianMixture(2, random_state=0), None
    yield "pca", PCA(2), None
    yield "svd", TruncatedSVD(2, random_state=0), None
    for s in (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler, Normalizer, Binarizer, PolynomialFeatures, PowerTransformer):
        yield s.__name__.lower(), s(), None
    yield "quantile", QuantileTransformer(n_quantiles=10), None
    yield "bins", KBinsDiscretizer(3, encode="onehot-dense", quantile_method="averaged_inverted_cdf"), None
    yield "select", SelectKBest(k=2), THREE
    yield "knn_imputer", KNNImputer(n_neighbors=3), None

def declared_wrong():
    """Models whose outputs are of another shape than skl2onnx declares."""
    yield "extra_trees_two_numbers", ExtraTreesRegressor(n_estimators=4, max_depth=3, random_state=0), np.stack([REAL, -REAL], 1)
    yield "mlp_labels", MLPClassifier((4, 3), max_iter=30, random_state=0), (SCORE > 0).astype(np.int64)
    yield "one_vs_one", OneVsOneClassifier(LinearSVC(random_state=0)), THREE
    yield "pls", PLSRegression(2), REAL


def record(name, model, given, types, **options):
    """types: the initial types of skl2onnx; None takes given's."""
    if not name.startswith(ONLY):
        return
    try:
        if types is None:
            proto = to_onnx(model, given["X"][:1], target_opset=OPSET)
        else:
            proto = to_onnx(model, initial_types=types, target_opset=OPSET, options={int(k): v for k, v in options.items()} or None)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        got = session.run(None, given)
    except Exception as e:
        print(f"SKIPPED {name}: {type(e).__name__}: {str(e)[:200]}")
        return
    folder = OUT / name / "test_data_set_0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / "model.onnx").write_bytes(proto.SerializeToString())
    # Sums of float32 in another order, and exponentials of them.
    (folder.parent / "data.json").write_text('{"rtol": 1e-5, "atol": 2e-6}\n')
    for kind, values, infos in (("input", [given[i.name] for i in proto.graph.input], proto.graph.input), ("output", got, proto.graph.output)):
        for i, (v, info) in enumerate(zip(values, infos)):
            (folder / f"{kind}_{i}.pb").write_bytes(encode(v, info.name).SerializeToString())


def main():
    warnings.simplefilter("ignore")
    for name, model, y in [*classifiers(), *others(), *declared_wrong()]:
        if name.startswith(ONLY):
            record(name, model.fit(X) if y is None else model.fit(X, y), {"X": NEW}, None)

    record("dict_logistic", make_pipeline(DictVectorizer(sparse=False), LogisticRegression()).fit(DICTS, WORDS),
           {"X": {"length": 0.5, "colour=red": 1.0}}, [("X", DictionaryType(StringTensorType([1]), FloatTensorType([1])))])
    record("dict", DictVectorizer(sparse=False).fit(DICTS), {"X": {"length": 0.5, "colour=blue": 1.0}},
           [("X", DictionaryType(StringTensorType([1]), FloatTensorType([1])))])
    words = COLOURS[:6].astype(object)
    record("one_hot", OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(COLOURS), {"X": words}, [("X", StringTensorType([None, 1]))])
    record("ordinal", OrdinalEncoder().fit(COLOURS), {"X": words}, [("X", StringTensorType([None, 1]))])
    record("label_encoder", LabelEncoder().fit(COLOURS[:, 0]), {"X": words[:, 0]}, [("X", StringTensorType([None]))])
    record("label_binarizer", LabelBinarizer().fit(THREE), {"X": THREE[:5, None]}, [("X", Int64TensorType([None, 1]))])
    numbers, holes = ["a", "b"], NEW[:, :2].copy()
    holes[2, 1] = np.nan
    import pandas as pd
    table = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "colour": COLOURS[:, 0]})
    table.loc[3, "a"] = np.nan
    columns = Pipeline([("columns", ColumnTransformer([
        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), numbers), ("words", OneHotEncoder(handle_unknown="ignore"), ["colour"])])),
        ("model", LogisticRegression())]).fit(table, WORDS)
    record("columns", columns, {"a": holes[:6, :1], "b": holes[:6, 1:], "colour": words},
           [("a", FloatTensorType([None, 1])), ("b", FloatTensorType([None, 1])), ("colour", StringTensorType([None, 1]))])
    texts = {"X": TEXT[:4].astype(object)}
    kind = [("X", StringTensorType([None]))]
    for name, words in [("count_words", CountVectorizer()), ("tfidf_words", TfidfVectorizer(ngram_range=(1, 2)))]:
        if name.startswith(ONLY):  # ONNX Runtime lowers by a locale, of which machines are sure to have one
            record(name, words.fit(TEXT), texts, kind, **{str(id(words)): {"locale": "C"}})
    record("multinomial_nb", MultinomialNB().fit(abs(X), THREE), {"X": abs(NEW)}, None)
    print("onnxruntime", ort.__version__, "skl2onnx", skl2onnx.__version__, "sklearn", sklearn.__version__, "onnx", onnx.__version__)


if __name__ == "__main__":
    main()
