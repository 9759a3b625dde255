"""What a skops file would build, read from its bytes alone.

A skops file is a zip with ``schema.json``, a tree that names the class of every object, and arrays in NumPy's
format. This check allows a short list of classes: what scikit-learn's text models consist of and what holds
data only. skops has its own review of types, which runs again when the model is loaded; this one is shorter,
needs neither skops nor scikit-learn, and so runs where nothing is ever loaded.

Left out on purpose: trees and sparse matrices inside a model (their raw indices are followed without bounds
checks, a crafted one crashes the process), functions, methods and operators (code by name), and whatever is
not needed to turn texts into predictions.
"""

from __future__ import annotations

import collections
import hashlib
import io
import re
import sys
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from learndock.errors import ModelError, UnsafeModel
from learndock.package.json_file import MIB, parse_json

SCHEMA = "schema.json"
#: Vocabularies of NumPy integers are one small member per word; what they unpack to is limited below.
MAX_MEMBERS = 100_000
MAX_TOTAL = 512 * MIB
MAX_SCHEMA = 64 * MIB
MAX_RATIO = 200
PROTOCOLS = (1, 2)

#: The header as NumPy writes it; read without NumPy's own parser, which evaluates it.
_NPY_HEADER = re.compile(
    r"\{'descr': '(?P<dtype>[<>|=](?:b1|[iuf][1248]|U[0-9]{1,6}))', 'fortran_order': (?:True|False), "
    r"'shape': \((?P<shape>(?:[0-9]{1,12}(?:, [0-9]{1,12}){0,7},?)?)\), \}[ \n]*"
)
_MEMBER = re.compile(r"[0-9]{1,20}\.npy")

#: Estimators that read texts or numbers and keep nothing but arrays, numbers and words.
ESTIMATORS = frozenset(
    {
        "sklearn.calibration.CalibratedClassifierCV",
        "sklearn.compose._target.TransformedTargetRegressor",
        "sklearn.decomposition._lda.LatentDirichletAllocation",
        "sklearn.decomposition._nmf.NMF",
        "sklearn.decomposition._pca.PCA",
        "sklearn.decomposition._truncated_svd.TruncatedSVD",
        "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
        "sklearn.dummy.DummyClassifier",
        "sklearn.dummy.DummyRegressor",
        "sklearn.ensemble._stacking.StackingClassifier",
        "sklearn.ensemble._stacking.StackingRegressor",
        "sklearn.ensemble._voting.VotingClassifier",
        "sklearn.ensemble._voting.VotingRegressor",
        "sklearn.feature_extraction.text.CountVectorizer",
        "sklearn.feature_extraction.text.HashingVectorizer",
        "sklearn.feature_extraction.text.TfidfTransformer",
        "sklearn.feature_extraction.text.TfidfVectorizer",
        "sklearn.feature_selection._univariate_selection.SelectKBest",
        "sklearn.feature_selection._univariate_selection.SelectPercentile",
        "sklearn.feature_selection._variance_threshold.VarianceThreshold",
        "sklearn.linear_model._base.LinearRegression",
        "sklearn.linear_model._coordinate_descent.ElasticNet",
        "sklearn.linear_model._coordinate_descent.Lasso",
        "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn.linear_model._logistic.LogisticRegressionCV",
        "sklearn.linear_model._passive_aggressive.PassiveAggressiveClassifier",
        "sklearn.linear_model._passive_aggressive.PassiveAggressiveRegressor",
        "sklearn.linear_model._perceptron.Perceptron",
        "sklearn.linear_model._ridge.Ridge",
        "sklearn.linear_model._ridge.RidgeCV",
        "sklearn.linear_model._ridge.RidgeClassifier",
        "sklearn.linear_model._ridge.RidgeClassifierCV",
        "sklearn.linear_model._stochastic_gradient.SGDClassifier",
        "sklearn.linear_model._stochastic_gradient.SGDRegressor",
        "sklearn.multiclass.OneVsOneClassifier",
        "sklearn.multiclass.OneVsRestClassifier",
        "sklearn.naive_bayes.BernoulliNB",
        "sklearn.naive_bayes.ComplementNB",
        "sklearn.naive_bayes.GaussianNB",
        "sklearn.naive_bayes.MultinomialNB",
        "sklearn.neural_network._multilayer_perceptron.MLPClassifier",
        "sklearn.neural_network._multilayer_perceptron.MLPRegressor",
        "sklearn.pipeline.FeatureUnion",
        "sklearn.pipeline.Pipeline",
        "sklearn.preprocessing._data.MaxAbsScaler",
        "sklearn.preprocessing._data.MinMaxScaler",
        "sklearn.preprocessing._data.Normalizer",
        "sklearn.preprocessing._data.RobustScaler",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.preprocessing._label.LabelBinarizer",
        "sklearn.preprocessing._label.LabelEncoder",
        "sklearn.svm._classes.LinearSVC",
        "sklearn.svm._classes.LinearSVR",
    }
)

#: Types that skops does not trust by itself, each with why it may be loaded here.
TRUSTED: dict[str, str] = {
    "sklearn.calibration._CalibratedClassifier": "a classifier and its calibrators, no code of its own",
    "sklearn.calibration._SigmoidCalibration": "two numbers, a and b of a sigmoid",
    "sklearn.feature_selection._univariate_selection.chi2": "scikit-learn's own test, used when fitting",
    "sklearn.feature_selection._univariate_selection.f_classif": "scikit-learn's own test, used when fitting",
    "sklearn.feature_selection._univariate_selection.f_regression": "scikit-learn's own, used when fitting",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer": "moments of a finished training run",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer": "velocities of a finished training run",
    "sklearn.utils._bunch.Bunch": "a dictionary with attribute access",
}

_FUNCTIONS = frozenset(name for name in TRUSTED if "_univariate_selection." in name)
_OBJECTS = ESTIMATORS | {n for n in TRUSTED if n not in _FUNCTIONS and not n.endswith(".Bunch")}
_SCALARS = frozenset(
    f"numpy.{name}"
    for name in (
        "bool", "bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float16", "float32", "float64", "str_", "longlong", "ulonglong",
    )
)  # fmt: skip
_PRIMITIVES = frozenset({"builtins.int", "builtins.float", "builtins.str", "builtins.bool"})

#: skops loader -> the classes that may come through it; None where the loader fixes the class itself.
_LOADERS: dict[str, frozenset[str] | None] = {
    "CachedNode": None,
    "DTypeNode": frozenset({"numpy.dtype"}),
    "DictNode": frozenset({"builtins.dict", "collections.OrderedDict", "sklearn.utils._bunch.Bunch"}),
    "FunctionNode": _FUNCTIONS,
    "JsonNode": None,
    "ListNode": frozenset({"builtins.list"}),
    "LossNode": frozenset(
        {f"sklearn._loss._loss.{n}" for n in ("CyHalfBinomialLoss", "CyHalfSquaredError", "CyHuberLoss")}
        | {
            f"sklearn.linear_model._sgd_fast.{n}"
            for n in (
                "EpsilonInsensitive", "Hinge", "Huber", "Log", "ModifiedHuber", "SquaredEpsilonInsensitive",
                "SquaredHinge", "SquaredLoss",
            )
        }
    ),
    "NdArrayNode": _SCALARS | {"numpy.ndarray"},
    "ObjectNode": _OBJECTS,
    "RandomStateNode": frozenset({"numpy.random.mtrand.RandomState"}),
    "SetNode": frozenset({"builtins.set"}),
    "SliceNode": frozenset({"builtins.slice"}),
    "TupleNode": frozenset({"builtins.tuple"}),
    "TypeNode": _PRIMITIVES | _SCALARS,
}  # fmt: skip

_REMEDY = "use a pipeline of scikit-learn's text vectorizers and linear models, or export it to ONNX"


def check_skops(path: Path) -> None:
    """Check a skops file without building anything from it.

    Raises:
        UnsafeModel: it holds what could run code or exhaust the machine; names member or class.
        ModelError: it is damaged.
    """
    try:
        with path.open("rb") as stream:
            _check_once(stream, path.name)
    except OSError as error:
        raise _damaged(path.name, error) from None


def check_source(source: bytes, *, where: str) -> None:
    """Check the bytes of a skops file, as ``check_skops`` does."""
    _check_once(io.BytesIO(source), where)


#: SHA-256 of the contents that passed last: one pack and one load look at the same file several times.
_passed: collections.OrderedDict[str, None] = collections.OrderedDict()
_REMEMBERED = 16


def _check_once(stream: IO[bytes], where: str) -> None:
    digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
    if digest in _passed:
        return
    stream.seek(0)
    if stream.read(4) != b"PK\x03\x04":
        raise ModelError("not a skops file", remedy="save the pipeline with skops.io.dump", about=where)
    size = stream.seek(0, io.SEEK_END)
    try:
        with zipfile.ZipFile(stream) as archive:
            _check_archive(archive, where, size)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError) as error:
        raise _damaged(where, error) from None
    _passed[digest] = None
    while len(_passed) > _REMEMBERED:
        _passed.popitem(last=False)


def _damaged(where: str, error: Exception) -> ModelError:
    return ModelError(f"a damaged skops file ({error})", remedy="save it again", about=where)


def _check_archive(archive: zipfile.ZipFile, where: str, size: int) -> None:
    members = archive.infolist()
    names = [m.filename for m in members]
    if len(members) > MAX_MEMBERS:
        raise UnsafeModel(
            f"{len(members):,} members, at most {MAX_MEMBERS:,} are allowed",
            remedy="make the numbers of its vocabulary Python's own: "
            "v.vocabulary_ = {k: int(n) for k, n in v.vocabulary_.items()}",
            about=where,
        )
    if len(set(names)) != len(names):
        raise UnsafeModel("two members have the same name", remedy="save it again with skops.io.dump", about=where)
    total = sum(m.file_size for m in members)
    if total > MAX_TOTAL or total > MAX_RATIO * max(size, 1):
        raise UnsafeModel(f"unpacks to {total} bytes, more than a model of this size may", about=where)
    for member in members:
        _check_member(member, where)
    if SCHEMA not in names:
        raise ModelError(f"has no {SCHEMA}", remedy="save the pipeline with skops.io.dump", about=where)
    tree = parse_json(archive.read(SCHEMA), where=f"{where}:{SCHEMA}")
    _check_tree(tree, where, frozenset(names))
    for member in members:
        if member.filename != SCHEMA:
            with archive.open(member) as stream:
                check_npy(stream, member.file_size, where=f"{where}:{member.filename}")


def _check_member(member: zipfile.ZipInfo, where: str) -> None:
    inside = f"{where}:{member.filename[:80]}"
    if member.flag_bits & 1:
        raise UnsafeModel("is encrypted", remedy="save it again with skops.io.dump", about=inside)
    if member.file_size > MAX_RATIO * max(member.compress_size, 1) and member.file_size > MIB:
        raise UnsafeModel(f"unpacks to {member.file_size} bytes; a zip bomb is not a model", about=inside)
    if member.filename == SCHEMA:
        if member.file_size > MAX_SCHEMA:
            raise UnsafeModel(f"{member.file_size} bytes, at most {MAX_SCHEMA} are allowed", about=inside)
    elif member.filename.endswith(".npz"):
        raise UnsafeModel(
            "a sparse matrix, whose indices are never checked", remedy=f"call densify(), or {_REMEDY}", about=inside
        )
    elif not _MEMBER.fullmatch(member.filename):
        raise UnsafeModel(
            "skops keeps no such file in a model", remedy="save it again with skops.io.dump", about=inside
        )


def check_npy(stream: IO[bytes], size: int, *, where: str) -> None:
    """Check the header of an array in NumPy's format: a plain numeric or text type that fills the file.

    Numbers are left unread; letters must be letters, for Python ends in a system error over others.

    Raises:
        UnsafeModel: an object array, which is a pickle.
        ModelError: it is damaged.
    """
    start = stream.read(12)
    if start[:6] != b"\x93NUMPY" or start[6:8] not in (b"\x01\x00", b"\x02\x00"):
        raise ModelError("not an array in NumPy's format", remedy="save it again", about=where)
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(start[8 : 8 + width], "little")
    header = (start[8 + width :] + stream.read(max(0, min(length, 1 << 16) - (4 - width)))).decode("latin-1")
    if re.search(r"'[<>|=]?O", header):
        raise UnsafeModel(
            "an array of objects is a pickle, which can run code when loaded",
            remedy="keep numbers or texts in arrays",
            about=where,
        )
    match = _NPY_HEADER.fullmatch(header)
    if match is None:
        raise ModelError("not an array of numbers or texts", remedy="save it again", about=where)
    shape = [int(extent) for extent in re.findall(r"[0-9]+", match["shape"])]
    dtype = np.dtype(match["dtype"])
    count = 1
    for extent in shape:
        count *= extent
    if 8 + width + length + count * dtype.itemsize != size:
        raise ModelError("its data does not fill the file", remedy="save it again", about=where)
    if dtype.kind == "U" and count:
        letters = np.frombuffer(stream.read(), dtype=np.dtype("u4").newbyteorder(dtype.byteorder))
        if letters.max(initial=0) > sys.maxunicode:
            raise ModelError("holds letters that do not exist", remedy="save it again", about=where)


def _check_tree(tree: Any, where: str, names: frozenset[str]) -> None:
    if not isinstance(tree, dict) or "__loader__" not in tree:
        raise ModelError(f"{where}:{SCHEMA}: not a skops tree", remedy="save the pipeline with skops.io.dump")
    protocol = tree.get("protocol")
    if isinstance(protocol, bool) or protocol not in PROTOCOLS:
        raise UnsafeModel(
            f"skops protocol {protocol!r} is not known", remedy="save it again with skops >= 0.11", about=where
        )
    refused: set[str] = set()
    stack: list[Any] = [tree]
    while stack:
        top = stack.pop()
        if isinstance(top, list):
            stack.extend(top)
        elif isinstance(top, dict):
            if "__loader__" in top:
                _check_node(top, where, names, refused)
            stack.extend(top.values())
    if refused:
        some = ", ".join(sorted(refused)[:5])
        raise UnsafeModel(
            f"holds types that are not on the list of safe ones: {some}", remedy=_remedy(refused), about=where
        )


def _remedy(refused: set[str]) -> str:
    if any(".model_selection._search" in name for name in refused):
        return "save what the search found, search.best_estimator_, and not the search"
    return _REMEDY


def _check_node(node: dict[str, Any], where: str, names: frozenset[str], refused: set[str]) -> None:
    loader = node["__loader__"]
    name = f"{node.get('__module__')}.{node.get('__class__')}"
    if not isinstance(loader, str) or loader not in _LOADERS:
        refused.add(f"{name[:120]} ({str(loader)[:40]})")
        return
    allowed = _LOADERS[loader]
    if allowed is not None and name not in allowed:
        refused.add(name[:120])
    member = node.get("file")
    # A member is named by text; a list or an object here could not even be looked for.
    there = isinstance(member, str) and member in names
    if loader == "NdArrayNode" and node.get("type") == "numpy" and not there:
        raise ModelError(f"the array {str(member)[:80]!r} is missing", remedy="save it again", about=where)
