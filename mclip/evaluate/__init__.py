"""How good a pack is: the metrics, each with the protocol it was computed under.

reconstruction, recognition, retrieval and generation hold pure functions of arrays, which a benchmark can use on its
own; protocol cuts windows, names the data and sums up seeds; evaluation runs all of it on a split of a store.
"""

from __future__ import annotations

from mclip.evaluate.evaluation import TOTAL, Evaluation, Scores, evaluate

__all__ = ["TOTAL", "Evaluation", "Scores", "evaluate"]
