"""The paper's rows beside ours."""

from replication.evaluation.statistics import Interval
from replication.reporting.paper import paper_table


def test_a_row_of_the_paper_that_was_run_is_judged():
    def reported(mode):
        key = {"model": "q4b", "algorithm": "e3rl", "benchmark": "aime24", "mode": mode, "metric": "avg"}
        return {**key, "what": mode, "claim": "Avg@32", "value": 0.5, "source": "R", "resolution": 0.05}

    metrics = {"q4b": {"e3rl": {"aime24": {"plain": {"avg": {"mean": 0.49, "low": 0.46, "high": 0.52}}}}}}
    plain, erased = (row.values for row in paper_table(metrics, [reported("plain"), reported("erased")]).rows)
    assert plain[-2:] == [Interval(0.49, 0.46, 0.52), "reproduced"] and erased[-2:] == [None, "not run here"]
