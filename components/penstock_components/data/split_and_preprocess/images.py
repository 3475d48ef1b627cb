"""Reading images from S3 ahead of their use, and the user's function that makes arrays of them.

Reads and decoding run on a bounded number of threads with a bounded number of images in flight; the user's function runs in the
calling thread only, in order, so it needs no care for threads. Source text given as the function runs with the rights of the
pod, like any code of the pipeline.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import re
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from penstock_components import s3
from penstock_components.errors import ComponentError
from penstock_components.manifest import Record

THREADS: Final = 16
Array = NDArray[np.float32]
Function = Callable[[Image.Image, dict[str, Any]], Array]
Item = TypeVar("Item")
Made = TypeVar("Made")
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class Picture(NamedTuple):
    """A decoded image, upright (EXIF orientation applied, as browsers show it to labellers), and the SHA-256 of its file."""

    image: Image.Image
    digest: str


def read(record: Record) -> Picture:
    """The image of a record.

    Raises:
        ComponentError: it is not there or cannot be decoded; the message names line and object.
    """
    try:
        data = s3.read(record.source)
    except ComponentError as error:
        raise ComponentError(f"line {record.line}: {error}") from error
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        upright = ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ComponentError(f"{record}: not a readable image of {len(data)} bytes ({error})") from error
    return Picture(upright, hashlib.sha256(data).hexdigest())


def ahead(function: Callable[[Item], Made], items: Iterable[Item], threads: int = THREADS) -> Iterator[Made]:
    """`map` on threads, in order, with at most two results a thread waiting to be taken."""
    with ThreadPoolExecutor(threads) as pool:
        running: deque[Future[Made]] = deque()
        try:
            for item in items:
                running.append(pool.submit(function, item))
                if len(running) >= 2 * threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


def function(reference: str, image_size: int) -> Function:
    """The preprocessing function: `module:function`, Python source that defines `preprocess`, or the built-in one for "".

    Raises:
        ComponentError: it cannot be imported or does not define what it should.
    """
    if not reference.strip():
        return lambda image, record: scaled_rgb(image, image_size)
    try:
        if _REFERENCE.fullmatch(reference.strip()):
            module, _, name = reference.strip().partition(":")
            found = getattr(importlib.import_module(module), name)
        else:
            namespace: dict[str, Any] = {"__name__": "preprocess_source"}
            exec(compile(reference, "<preprocess>", "exec", dont_inherit=True), namespace)
            found = namespace["preprocess"]
    except KeyError as error:
        raise ComponentError("the preprocessing source defines no function `preprocess(image, record)`") from error
    except Exception as error:
        raise ComponentError(f"preprocessing function {reference:.80}: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ComponentError(f"preprocessing function {reference:.80} is a {type(found).__name__}, expected a function")
    wanted: Function = found
    return wanted


def scaled_rgb(image: Image.Image, size: int) -> Array:
    """(3, size, size), 0 to 1: the largest centred square, in RGB."""
    square = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(square, dtype=np.float32).transpose(2, 0, 1) / np.float32(255))


def apply(wanted: Function, picture: Picture, record: Record, shape: tuple[int, ...] | None) -> Array:
    """The user's array for one image, checked: float32, finite, of the shape of those before.

    Raises:
        ComponentError: the function failed or gave something else; the message names line and object.
    """
    try:
        array = wanted(picture.image, dict(record.fields))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename}:{place.lineno}"
        raise ComponentError(f"{record}: preprocessing failed at {where}: {type(error).__name__}: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        what = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else f"a {type(array).__name__}"
        raise ComponentError(f"{record}: preprocessing gave {what}, expected a float32 numpy array (.astype('float32'))")
    if shape is not None and array.shape != shape:
        raise ComponentError(f"{record}: preprocessing gave shape {array.shape}, the images before gave {shape}")
    if not array.size or not np.isfinite(array).all():
        raise ComponentError(f"{record}: preprocessing gave an empty array, or NaN or infinite values")
    return array
