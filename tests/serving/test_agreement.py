"""Whatever the rows are, v1, v2 as JSON, v2 as bytes and .npy all say what torch says."""

from __future__ import annotations

import io
import json

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.serving import models
from tests.serving.server import Server

ROWS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 70), st.just(4)),
    elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False),
)
MODEL = models.Iris().eval()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_every_protocol_agrees_with_torch(server: Server, rows: np.ndarray) -> None:
    with torch.no_grad():
        expected = MODEL(torch.from_numpy(rows.copy())).numpy()
    v1 = server.post("/v1/models/m:predict", {"instances": rows.tolist()}).json["predictions"]
    tensor = {"name": "x", "shape": list(rows.shape), "datatype": "FP32"}
    v2 = server.post("/v2/models/m/infer", {"inputs": [{**tensor, "data": rows.ravel().tolist()}]}).json["outputs"][0]
    header = json.dumps(
        {"inputs": [{**tensor, "parameters": {"binary_data_size": rows.nbytes}}], "parameters": {"binary_data_output": True}}
    ).encode()
    raw = server.post("/v2/models/m/infer", header + rows.tobytes(), Inference_Header_Content_Length=str(len(header)))
    stream = io.BytesIO()
    np.save(stream, rows)
    npy = server.post("/invocations", stream.getvalue(), Content_Type="application/x-npy")
    answers = [
        np.array(v1, np.float32),
        np.array(v2["data"], np.float32).reshape(v2["shape"]),
        np.frombuffer(raw.body[int(raw.headers["inference-header-content-length"]) :], np.float32).reshape(expected.shape),
        np.load(io.BytesIO(npy.body)),
    ]
    for answer in answers:
        np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(expected).max())))
