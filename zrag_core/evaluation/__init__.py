"""Measures, intervals and the leaderboard's aggregates."""
