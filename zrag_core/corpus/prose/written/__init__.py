"""Documents as people have them, and questions as people ask them, written for training and calibrating skills.

A large language model wrote them for this project (licence: the project's own); everything in them is invented.

- `documents-*.jsonl`, `further-*.jsonl`: a document a line, with `title`, `kind`, `text` (Markdown), `answerable`
  (`question` and `evidence`, a sentence of the text) and `unanswerable` (near misses: about the subject, and not
  answered).
- `questions.jsonl`: questions about sentences of the packages' prose, with the `title` and `sentence` they are about.
"""
