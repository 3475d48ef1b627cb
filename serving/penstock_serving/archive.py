"""What a model file may hold, checked before torch reads it: an archive of torch.export.save, and nothing in it that runs code.

torch.export.load by itself trusts the file. In torch 2.15 it unpickles sample inputs, weights and constants where the archive
asks for that; it evaluates symbolic shapes as Python (sympy.sympify); it takes any attribute below `torch`, `math` and
`operator` as an operator of the graph, `torch.os.system` included; it writes names from the file into generated source; it
imports modules that a tree specification names. So the file is refused unless:

- it is a plain zip, every entry stored uncompressed, named once, and one of those torch.export.save writes for one program:
  no pickled weights, no custom objects, no compiled libraries (AOTInductor), no TorchScript;
- tensors are raw bytes; the sample inputs, always a pickle, hold only tensors and containers (torch.load, weights_only=True);
- every operator is one of ATen's or a short list of arithmetic ones, and none of those that touch files;
- every name is an identifier, every symbolic expression is arithmetic over a short list of functions, and inputs and outputs
  are plain tuples, lists and dicts.

The check reads through torch's own zip reader what torch will read, from a private copy that nobody else can change. Limits:
this stops a file from running Python or opening files. It does not stop a model from being wrong, from asking for more memory
or time than there is, or from reaching an unknown memory error inside an ATen kernel: run models of strangers in their own
pod.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

INFORMATION = "extra/penstock.json"
_PROGRAM = "models/model.json"
_SAMPLE = "data/sample_inputs/model.pt"
_PAYLOADS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_ENTRY = re.compile(
    r"data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|models/model\.json|data/sample_inputs/model\.pt|extra/[A-Za-z0-9._-]+|archive_format|archive_version|byteorder"
    r"|\.data/(version|serialization_id)"
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_OPERATOR = re.compile(
    r"torch\.ops\.aten\.(?!from_file\.)[A-Za-z0-9_]+\.[A-Za-z0-9_]+"
    r"|torch\.ops\.higher_order\.(cond|map_impl|scan|while_loop|wrap_with_autocast|wrap_with_set_grad_enabled)"
    r"|torch\.(sym_(float|int|ite|max|min|not|sum)|_sym_sqrt)|math\.(ceil|floor|trunc)"
    r"|_operator\.(add|and_|eq|floordiv|ge|getitem|gt|le|lt|mod|mul|ne|neg|or_|pos|pow|sub|truediv)"
)
_FUNCTION = re.compile(
    "Abs|Add|And|CeilDiv|CeilToInt|CleanDiv|Eq|Equality|Float|FloatPow|FloatTrueDiv|FloorDiv|FloorToInt|Ge|GreaterThan|Gt"
    "|Identity|IntTrueDiv|Integer|LShift|Le|LessThan|Lt|Max|Min|Mod|ModularIndexing|Mul|Ne|Not|Or|Pow|PowByNatural|PythonMod"
    "|RShift|Rational|RoundToInt|StrictGreaterThan|StrictLessThan|Symbol|ToFloat|TruncToFloat|TruncToInt|Unequality|Where"
    "|ceiling|floor"
)
# Symbols (s0, u1) and sympy's constants: no name with a meaning to Python.
_SYMBOL = re.compile(r"[suzf]+\d+|oo|int_oo|true|false")
_VALUES = (ast.Expression, ast.Call, ast.keyword, ast.Constant, ast.Name, ast.Load)
_OPERATIONS = (ast.BinOp, ast.UnaryOp, ast.Compare, ast.operator, ast.unaryop, ast.cmpop)
# Fields of torch's schema (torch/_export/serde/schema.py) that end up as names in generated code.
_NAME_FIELDS = frozenset({"name", "as_name", "fqn", "parameter_name", "buffer_name", "tensor_constant_name", "user_input_name"})


class UnsafeModel(ValueError):
    """A file that is not loaded; the message says what was found."""


def check(path: Path) -> dict[str, Any]:
    """Refuse the file, or return what its penstock.json says.

    Raises:
        UnsafeModel: it is not an archive of torch.export.save, or holds something that could run code.
    """
    _check_entries(path)
    try:
        reader: Any = torch._C.PyTorchFileReader(str(path))
        records = {name: reader.get_record(name) for name in (_PROGRAM, *_PAYLOADS, _SAMPLE)}
        information = reader.get_record(INFORMATION) if reader.has_record(INFORMATION) else None
    except RuntimeError as error:
        raise UnsafeModel(f"no archive of torch.export.save: {_first_line(error)}") from error
    for name in _PAYLOADS:
        _check_payload(name, _json(name, records[name]))
    _check_program(_json(_PROGRAM, records[_PROGRAM]))
    try:
        torch.load(io.BytesIO(records[_SAMPLE]), weights_only=True)
    except Exception as error:
        raise UnsafeModel(f"{_SAMPLE}: holds more than tensors, so torch would unpickle it: {_first_line(error)}") from error
    if information is None:
        raise UnsafeModel(f"{INFORMATION} is missing; save with torch.export.save(..., extra_files={{'penstock.json': ...}})")
    found = _json(INFORMATION, information)
    if not isinstance(found, dict):
        raise UnsafeModel(f"{INFORMATION}: expected an object, found {type(found).__name__}")
    return found


def _check_entries(path: Path) -> None:
    with path.open("rb") as file:
        begin = file.read(4)
    if begin != b"PK\x03\x04":
        what = "a pickle" if begin[:1] == b"\x80" else "no zip archive"
        raise UnsafeModel(f"{what}; expected an archive of torch.export.save")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UnsafeModel(f"a broken zip archive: {error}") from error
    names = [entry.filename for entry in entries]
    # One folder, named as the file was when it was saved.
    root = f"{names[0].partition('/')[0]}/" if names else ""
    inside = [name.removeprefix(root) for name in names if name.startswith(root)]
    if any(name in ("data.pkl", "constants.pkl") for name in inside):
        what = "TorchScript" if any(name.startswith("code/") for name in inside) else "a pickle of torch.save"
        raise UnsafeModel(f"{what}; expected an archive of torch.export.save")
    if len(inside) != len(names) or len({name.casefold() for name in inside}) != len(inside):
        raise UnsafeModel("an archive with entries beside its folder, or two of one name")
    for entry, name in zip(entries, inside, strict=True):
        if not _ENTRY.fullmatch(name):
            raise UnsafeModel(f"holds {name!r}, which torch.export.save does not write for a program of tensors and operators")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 0x1 or entry.file_size != entry.compress_size:
            raise UnsafeModel(f"{name}: is compressed or encrypted; torch.export.save stores")
    for name in (_PROGRAM, *_PAYLOADS, _SAMPLE):
        if name not in inside:
            raise UnsafeModel(f"no {name}; expected an archive of torch.export.save")


def _check_payload(place: str, payload: Any) -> None:
    try:
        for name, meta in payload["config"].items():
            if meta["use_pickle"] is not False or not re.fullmatch(r"(weight|tensor)_\d+", meta["path_name"]):
                raise UnsafeModel(f"{place}: {name!r} is a pickled object; only plain tensors are loaded")
    except (AttributeError, KeyError, TypeError) as error:
        raise UnsafeModel(f"{place}: is not what torch.export.save writes: {error!r}") from error
    _walk(place, payload)


def _check_program(program: Any) -> None:
    _walk(_PROGRAM, program)
    try:
        for entry in program["graph_module"]["module_call_graph"]:
            if signature := entry["signature"]:
                for spec in ("in_spec", "out_spec"):
                    _check_tree(json.loads(signature[spec])[1])
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, UnsafeModel):
            raise
        raise UnsafeModel(f"{_PROGRAM}: is not what torch.export.save writes: {error!r}") from error


def _walk(place: str, found: Any) -> None:
    """Every value of the parsed JSON, by the field it stands in."""
    if isinstance(found, list):
        for each in found:
            _walk(place, each)
    elif isinstance(found, dict):
        for key, value in found.items():
            _check_field(place, key, value)
            _walk(place, value)


def _check_field(place: str, key: str, value: Any) -> None:
    match key, value:
        case "target" | "as_operator", str():
            if not _OPERATOR.fullmatch(value):
                raise UnsafeModel(f"{place}: operator {value!r} is not served; only ATen's and plain arithmetic are")
        case "expr_str", str():
            _check_expression(place, value)
        case ("as_custom_obj" | "custom_obj", _):
            raise UnsafeModel(f"{place}: uses a custom object; only tensors are served")
        case "forward_arg_names", list():
            _check_names(place, key, value)
        case _, str() if key in _NAME_FIELDS:
            # Empty: the argument of an operator by its position, and the program itself among the modules.
            _check_names(place, key, [value] if value else [])


def _check_names(place: str, key: str, names: list[Any]) -> None:
    for name in names:
        # Part of a name between dots may be a number: the second layer of a Sequential is "1".
        if not isinstance(name, str) or not _NAME.fullmatch(f"_{name}"):
            raise UnsafeModel(f"{place}: {key} {name!r} is not a name")


def _check_expression(place: str, text: str) -> None:
    """Arithmetic of numbers, symbols and the functions above; sympify would run anything else."""
    refused = UnsafeModel(f"{place}: {text[:80]!r} is not an arithmetic expression")
    try:
        nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise refused from None
    for node in nodes:
        if not isinstance(node, (*_VALUES, *_OPERATIONS)):
            raise refused
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and _FUNCTION.fullmatch(node.func.id)):
            raise refused
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not re.fullmatch(r"[a-z]+[0-9]*", node.value):
            raise refused
        if isinstance(node, ast.Name) and not _FUNCTION.fullmatch(node.id) and not _SYMBOL.fullmatch(node.id):
            raise refused


def _check_tree(tree: Any) -> None:
    """A pytree specification; other node types import modules or name classes."""
    kinds = (None, "builtins.tuple", "builtins.list", "builtins.dict")
    if tree["type"] not in kinds or tree["context"] not in (None, "null", "[]"):
        raise UnsafeModel(
            f"{_PROGRAM}: inputs or outputs of type {tree['type']} {tree['context']}; expected positional tensors"
        )
    for child in tree["children_spec"]:
        _check_tree(child)


def _json(place: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnsafeModel(f"{place}: is not JSON: {error}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
