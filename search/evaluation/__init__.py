"""Measuring retrieval: collections with judgements, metrics with intervals, runs per stage."""
