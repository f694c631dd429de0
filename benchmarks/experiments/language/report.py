"""What the shows print, and the files they leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["RESULTS", "epoch_row", "say", "write"]

RESULTS = Path(__file__).resolve().parents[2] / "results" / "experiments"


def say(text: str) -> None:
    print(text, flush=True)


def epoch_row(
    who: str, epoch: int, loss: float, judged: float | None, rate: float, unit: str = "characters"
) -> dict[str, Any]:
    """What one epoch was, printed."""
    validation = "" if judged is None else f"validation {judged:.4f}, "
    say(f"{who}, epoch {epoch + 1}: loss {loss:.4f}, {validation}{rate:,.0f} {unit}/s")
    return {"loss": loss, "validation": judged, f"{unit}_per_second": rate}


def write(record: dict[str, Any]) -> Path:
    """Keep a record."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{record['name']}.json"
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
