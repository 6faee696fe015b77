"""Who waits for whom, since when, and where: read from the board, from any process of the same user."""

from __future__ import annotations

from treadle._native.waits import Wait, threads, waits

__all__ = ["Wait", "threads", "waits"]
