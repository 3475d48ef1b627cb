"""Requests are run together when they come together, and one of them cannot spoil another's answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.serving import models
from tests.serving.conftest import Start
from tests.serving.server import Answer, Server, until

PREDICT = "/v1/models/m:predict"


def in_flight(server: Server) -> bool:
    """An inference runs; the warm-up is not counted."""
    return server.metric("penstock_batch_requests_count") > 0


def test_what_waits_while_an_inference_runs_is_run_together(slow: Path, start: Start) -> None:
    server = start(slow).ready()
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(server.post, PREDICT, {"instances": [[0, 0]]})
        until(lambda: in_flight(server), server.log)
        rest = [pool.submit(server.post, PREDICT, {"instances": [[number, 1]]}) for number in range(8)]
        until(lambda: server.metric("penstock_queue_requests") == 8, lambda: server.get("/metrics").body.decode())
        assert not first.done()
        answers = [each.result() for each in rest]
    assert [answer.json["predictions"] for answer in answers] == [[[number + 1.0]] for number in range(8)]
    assert server.metric("penstock_batch_requests_count") == 2
    assert server.metric("penstock_batch_rows_sum") == 9
    assert server.metric("penstock_queue_requests") == 0


def test_a_batch_has_no_more_rows_than_it_may(slow: Path, start: Start) -> None:
    server = start(slow, PENSTOCK_BATCH_MAX_ROWS="4").ready()
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(server.post, PREDICT, {"instances": [[0, 0]]})
        until(lambda: in_flight(server), server.log)
        rest = [pool.submit(server.post, PREDICT, {"instances": [[1, 1]] * 3}) for _ in range(2)]
        assert all(each.result().status == 200 for each in [first, *rest])
    assert server.metric("penstock_batch_requests_count") == 3
    assert server.metric('penstock_batch_rows_bucket{le="4.0"}') == 3


def test_a_full_queue_is_a_503_that_says_when_to_come_back(slow: Path, start: Start) -> None:
    server = start(slow, PENSTOCK_QUEUE_REQUESTS="2").ready()
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(server.post, PREDICT, {"instances": [[0, 0]]})
        until(lambda: in_flight(server), server.log)
        waiting = [pool.submit(server.post, PREDICT, {"instances": [[1, 1]]}) for _ in range(2)]
        until(lambda: server.metric("penstock_queue_requests") == 2, server.log)
        refused = server.post(PREDICT, {"instances": [[2, 2]]})
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert "2 requests are waiting already" in refused.error
        # Those that were taken are answered, and the server is live and ready all the while.
        assert server.get("/v2/health/ready").status == 200
        assert [each.result().status for each in [first, *waiting]] == [200, 200, 200]


def test_a_request_out_of_time_is_a_504_and_leaves_the_queue(slow: Path, start: Start) -> None:
    server = start(slow, PENSTOCK_REQUEST_TIMEOUT_SECONDS="0.2").ready()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(server.post, PREDICT, {"instances": [[0, 0]]})
        until(lambda: in_flight(server), server.log)
        answer = server.post(PREDICT, {"instances": [[1, 1]]})
        assert answer.status == 504
        assert answer.error == "no answer within 0.2 s"
        assert server.metric("penstock_queue_requests") == 0
        assert first.result().status == 504


def test_a_row_the_model_fails_on_fails_alone(tmp_path: Path, slow: Path, start: Start) -> None:
    server = start(models.save(tmp_path / "model.pt2", models.Picky(), [1], "int64"), PENSTOCK_BATCH_DELAY_MS="500").ready()

    def ask(number: int) -> Answer:
        return server.post(PREDICT, {"instances": [[number]]})

    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            good, bad = pool.map(ask, [3, 3, 3, 3]), pool.submit(ask, 99)
            assert [answer.json["predictions"] for answer in good] == [[[3.0]]] * 4
            assert bad.result().status == 500
            assert "the model failed: " in bad.result().error
            if server.metric("penstock_batch_requests_sum") > server.metric("penstock_batch_requests_count"):
                break
    # At least once they did share a batch.
    assert server.metric("penstock_batch_requests_sum") > server.metric("penstock_batch_requests_count")
