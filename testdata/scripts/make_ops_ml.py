"""The cases of ai.onnx.ml; see make_ops.py."""

import numpy as np

from make_ops import Case, rng

ML = "ai.onnx.ml"
POSTS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"]


def f32(r, *shape):
    return r.standard_normal(shape).astype(np.float32)


def forest(r, trees, depth, features, targets, votes, modes=("BRANCH_LEQ",), only=None, positive=False):
    """Complete binary trees with random tests; every leaf votes once."""
    a = {k: [] for k in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids", "missing_value_tracks_true")}
    v = {k: [] for k in ("treeids", "nodeids", "ids", "weights")}
    for t in range(trees):
        inner, total = 2**depth - 1, 2 ** (depth + 1) - 1
        for n in range(total):
            leaf = n >= inner
            a["treeids"].append(t)
            a["nodeids"].append(n)
            a["featureids"].append(0 if leaf else int(r.integers(features)))
            a["modes"].append("LEAF" if leaf else modes[int(r.integers(len(modes)))])
            a["values"].append(0.0 if leaf else float(np.float32(r.standard_normal())))
            a["truenodeids"].append(0 if leaf else 2 * n + 1)
            a["falsenodeids"].append(0 if leaf else 2 * n + 2)
            a["missing_value_tracks_true"].append(int(r.integers(2)) if not leaf else 0)
            if leaf:
                v["treeids"].append(t)
                v["nodeids"].append(n)
                v["ids"].append(int(r.integers(targets)) if only is None else only)
                w = abs(r.standard_normal()) / trees if positive else r.standard_normal()
                v["weights"].append(float(np.float32(w)))
    return {**{f"nodes_{k}": x for k, x in a.items()}, **{f"{votes}_{k}": x for k, x in v.items()}}


def cases():
    for post in POSTS:
        r = rng("linear" + post)
        x = f32(r, 5, 4)
        yield Case(f"linear_classifier_{post.lower()}", "LinearClassifier", ML, {"X": x}, ["Y", "Z"], coefficients=f32(r, 12).tolist(),
                   intercepts=f32(r, 3).tolist(), classlabels_ints=[3, 1, 2], multi_class=1, post_transform=post)
        yield Case(f"linear_classifier_binary_{post.lower()}", "LinearClassifier", ML, {"X": x}, ["Y", "Z"], coefficients=f32(r, 4).tolist(),
                   intercepts=f32(r, 1).tolist(), classlabels_strings=["no", "yes"], post_transform=post)
        yield Case(f"linear_regressor_{post.lower()}", "LinearRegressor", ML, {"X": x}, ["Y"], coefficients=f32(r, 8).tolist(),
                   intercepts=f32(r, 2).tolist(), targets=2, post_transform=post)
        yield Case(f"tree_classifier_{post.lower()}", "TreeEnsembleClassifier", ML, {"X": x}, ["Y", "Z"], version=3, classlabels_int64s=[5, 6, 7],
                   post_transform=post, **forest(r, 6, 3, 4, 3, "class"))
        yield Case(f"tree_classifier_two_{post.lower()}", "TreeEnsembleClassifier", ML, {"X": x}, ["Y", "Z"], version=3, shown=["Z"], classlabels_strings=["a", "b"],
                   post_transform=post, **forest(r, 6, 3, 4, 2, "class", positive=True))
        yield Case(f"tree_classifier_one_score_{post.lower()}", "TreeEnsembleClassifier", ML, {"X": x}, ["Y", "Z"], version=3, classlabels_int64s=[0, 1],
                   post_transform=post, base_values=[0.1], **forest(r, 6, 3, 4, 1, "class", only=0))
        yield Case(f"tree_classifier_one_probability_{post.lower()}", "TreeEnsembleClassifier", ML, {"X": x}, ["Y", "Z"], version=3, classlabels_int64s=[0, 1],
                   post_transform=post, **forest(r, 3, 3, 4, 1, "class", only=0, positive=True))
    for how in ["SUM", "AVERAGE", "MIN", "MAX"]:
        r = rng("tree" + how)
        x = f32(r, 6, 4)
        x[1, 2] = np.nan
        yield Case(f"tree_regressor_{how.lower()}", "TreeEnsembleRegressor", ML, {"X": x}, ["Y"], version=3, n_targets=2, aggregate_function=how,
                   base_values=[0.5, -0.25], **forest(r, 5, 4, 4, 2, "target", modes=("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")))
    for kernel in ["LINEAR", "POLY", "RBF", "SIGMOID"]:
        r = rng("svm" + kernel)
        x = f32(r, 7, 3)
        shared = dict(kernel_type=kernel, kernel_params=[0.4, 0.3, 2.0], support_vectors=f32(r, 9 * 3).tolist())
        yield Case(f"svm_regressor_{kernel.lower()}", "SVMRegressor", ML, {"X": x}, ["Y"], coefficients=f32(r, 9).tolist(), rho=[0.3], n_supports=9, **shared)
        yield Case(f"svm_classifier_{kernel.lower()}", "SVMClassifier", ML, {"X": x}, ["Y", "Z"], coefficients=f32(r, 18).tolist(), rho=f32(r, 3).tolist(),
                   vectors_per_class=[4, 3, 2], classlabels_ints=[0, 1, 2], **shared)
        yield Case(f"svm_classifier_proba_{kernel.lower()}", "SVMClassifier", ML, {"X": x}, ["Y", "Z"], coefficients=f32(r, 18).tolist(), rho=f32(r, 3).tolist(),
                   vectors_per_class=[4, 3, 2], classlabels_ints=[0, 1, 2], prob_a=(-abs(f32(r, 3))).tolist(), prob_b=f32(r, 3).tolist(), **shared)
        yield Case(f"svm_classifier_two_{kernel.lower()}", "SVMClassifier", ML, {"X": x}, ["Y", "Z"], coefficients=f32(r, 9).tolist(), rho=f32(r, 1).tolist(),
                   vectors_per_class=[4, 5], classlabels_strings=["a", "b"], **shared)
        yield Case(f"svm_classifier_two_proba_{kernel.lower()}", "SVMClassifier", ML, {"X": x}, ["Y", "Z"], coefficients=f32(r, 9).tolist(), rho=f32(r, 1).tolist(),
                   vectors_per_class=[4, 5], classlabels_strings=["a", "b"], prob_a=[-1.5], prob_b=[0.2], **shared)
    r = rng("small")
    x = f32(r, 4, 3)
    yield Case("svm_one_class", "SVMRegressor", ML, {"X": x}, ["Y"], kernel_type="RBF", kernel_params=[0.5, 0.0, 3.0], support_vectors=f32(r, 6).tolist() + [0.0] * 3,
               coefficients=[0.5, 0.5, 0.2], rho=[-0.6], n_supports=3, one_class=1)
    for norm in ["MAX", "L1", "L2"]:
        yield Case(f"normalizer_{norm.lower()}", "Normalizer", ML, {"X": x}, ["Y"], norm=norm)
    yield Case("normalizer_int", "Normalizer", ML, {"X": np.array([[1, -2, 3], [0, 0, 0]], np.int64)}, ["Y"], norm="L2")
    yield Case("scaler", "Scaler", ML, {"X": x}, ["Y"], offset=[0.5, 1.0, -1.0], scale=[2.0, 0.5, 1.0])
    yield Case("scaler_one", "Scaler", ML, {"X": x.astype(np.float64)}, ["Y"], offset=[0.5], scale=[2.0])
    yield Case("imputer_nan", "Imputer", ML, {"X": np.array([[1, np.nan, 3], [np.nan, 0, 1]], np.float32)}, ["Y"], imputed_value_floats=[7.0, 8.0, 9.0], replaced_value_float=float("nan"))
    yield Case("imputer_int", "Imputer", ML, {"X": np.array([[1, -1, 3], [-1, 0, 1]], np.int64)}, ["Y"], imputed_value_int64s=[5], replaced_value_int64=-1)
    yield Case("binarizer", "Binarizer", ML, {"X": x}, ["Y"], threshold=0.25)
    words = np.array([["red", "green"], ["blue", "red"]], object)
    yield Case("label_encoder_words", "LabelEncoder", ML, {"X": words}, ["Y"], version=2, keys_strings=["red", "blue"], values_int64s=[4, 9], default_int64=-7)
    yield Case("label_encoder_floats", "LabelEncoder", ML, {"X": np.array([1, np.nan, 2], np.float32)}, ["Y"], version=4, keys_floats=[float("nan"), 1.0], values_strings=["missing", "one"])
    yield Case("label_encoder_v1", "LabelEncoder", ML, {"X": np.array([1, 0, 9], np.int64)}, ["Y"], classes_strings=["zero", "one"], default_string="?")
    yield Case("category_mapper", "CategoryMapper", ML, {"X": words}, ["Y"], cats_int64s=[1, 2], cats_strings=["red", "green"], default_int64=-3)
    yield Case("one_hot_words", "OneHotEncoder", ML, {"X": words}, ["Y"], cats_strings=["red", "green", "blue"])
    yield Case("one_hot_ints", "OneHotEncoder", ML, {"X": np.array([[3, 1], [2, 7]], np.int64)}, ["Y"], cats_int64s=[1, 2, 3])
    yield Case("array_feature_extractor", "ArrayFeatureExtractor", ML, {"X": x, "Y": np.array([2, 0], np.int64)}, ["Z"])
    yield Case("array_feature_extractor_row", "ArrayFeatureExtractor", ML, {"X": np.array(["a", "b", "c"], object), "Y": np.array([2, 0], np.int64)}, ["Z"])
    yield Case("feature_vectorizer", "FeatureVectorizer", ML, {"a": x, "b": f32(r, 4, 2)}, ["Y"], inputdimensions=[3, 2])
    yield Case("zip_map_words", "ZipMap", ML, {"X": x}, ["Z"], classlabels_strings=["c", "a", "b"])
    yield Case("zip_map_row", "ZipMap", ML, {"X": x[0]}, ["Z"], classlabels_int64s=[3, -1, 2])
    yield Case("dict_vectorizer", "DictVectorizer", ML, {"X": {7: 1.5, -2: 2.5, 9: 1.0}}, ["Y"], int64_vocabulary=[1, -2, 7, 7])
    for to in ("TO_FLOAT", "TO_INT64", "TO_STRING"):
        for form in ("DENSE", "SPARSE"):
            yield Case(f"cast_map_{to[3:].lower()}_{form.lower()}", "CastMap", ML, {"X": {4: 1.5, 0: -2.75, 3: 1e9}}, ["Y"], cast_to=to, map_form=form, max_map=6)
