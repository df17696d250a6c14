"""Evidence of every system, its scores, and the leaderboard."""
