"""The run card as a page: what the model is, what it learned from, what it is worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def as_markdown(card: Mapping[str, Any]) -> str:
    """The model card of a finished run."""
    settings, training, calibration = card["settings"], card["training"], card["calibration"]
    teacher = settings["teacher"]
    return "\n".join(
        [
            "# A reranker trained by ragsite",
            "",
            "Scores a passage for a question; made by `manage.py train_reranker`. Every figure "
            "below is of that run.",
            "",
            f"- Base: {card['base']}; encoder {card['encoder']['name']} (Apache-2.0, SHA-256 "
            f"`{card['encoder']['sha256']}`), {training['parameters']:,} trained parameters.",
            f"- Learned from {card['examples']:,} questions, each with an answer and mined "
            f"negatives; {settings['loss']} loss, learning rate {settings['learning_rate']}, "
            f"{settings['questions_per_batch']} questions a batch, {training['steps']} steps, "
            f"seed {settings['seed']}"
            + (f", teacher {teacher} ({settings['teacher_share']:.0%})." if teacher else "."),
            f"- Took {training['seconds']} s on {training['device']} with "
            f"{training['threads']} threads.",
            "",
            "## Data",
            "",
            *_table(
                ("set", "use", "language", "licence", "questions", "passages"),
                (
                    (e["name"], use, e["language"], e["licence"], e["questions"], e["passages"])
                    for use, key in (("training", "train"), ("validation", "validate"))
                    for e in card["data"][key]
                ),
            ),
            "",
            "## nDCG@10 on the validation sets",
            "",
            "In percent, with 95 % bootstrap intervals; the pool is the first 50 of the fused "
            "order. “alone”: ordered by the logit; “calibrated”: by the log-odds below.",
            "",
            *_table(
                ("set", "fused", "alone", "calibrated", "gain of calibrated", "p"),
                (_gain_row(name, found) for name, found in card["gains"].items()),
            ),
            "",
            "## What a logit means",
            "",
            f"relevance = logistic({calibration['slope']:.4f} × (logit − "
            f"{calibration['place']} × ln(fused rank)) + {calibration['intercept']:.4f}). Expected "
            f"calibration error {card['reliability']['error']:.3f}.",
            "",
            *_table(
                ("relevance", "share that answers", "passages"),
                (
                    (f"{b['relevance']:.2f}", f"{b['relevant']:.2f}", b["passages"])
                    for b in card["reliability"]["bins"]
                ),
            ),
            "",
            "## When nothing answers",
            "",
            "A question counts as unanswerable when its answering passages are taken out of its "
            f"pool. Threshold: {calibration['threshold']}.",
            "",
            *_table(
                ("set", "AUROC"),
                ((name, f"{value:.3f}") for name, value in card["abstention"]["auroc"].items()),
            ),
            "",
            *_table(
                ("threshold", "answered of the answerable", "answered of the unanswerable"),
                (
                    (f"{p['threshold']:.3f}", f"{p['answered']:.2f}", f"{p['wrong']:.2f}")
                    for p in card["abstention"]["curve"]
                ),
            ),
            "",
        ]
    )


def _gain_row(name: str, found: Mapping[str, Any]) -> tuple[Any, ...]:
    alone, final = found["alone"], found["calibrated"]
    difference = final["difference"]
    return (
        f"{name} ({final['questions']})",
        f"{100 * final['fused']['mean']:.1f}",
        f"{100 * alone['reranked']['mean']:.1f}",
        f"{100 * final['reranked']['mean']:.1f}",
        f"{100 * difference['mean']:+.1f} [{100 * difference['low']:+.1f}, "
        f"{100 * difference['high']:+.1f}]",
        f"{final['p_value']:.4f}",
    )


def _table(heads: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> list[str]:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]
