"""Korean documents as people have them, with questions as people ask them, for calibrating zrag-tiny's skill.

A large language model wrote them for this project (licence: the project's own); everything in them is invented. The
form is that of `written`: `title`, `kind`, `text`, `answerable` (`question`, `evidence`) and `unanswerable` (two near
misses, two about other things; of `further-*.jsonl` six and three).
"""
