from zrag_core.corpus.almanac.documents import generate_blocks


def generate_documents(n, language="en", seed=0, pool="evaluation"):
    """The documents of an almanac without the questions of a corpus."""
    blocks = generate_blocks(n, language, seed, pool)
    return [document for _, documents in blocks for document in documents if document.index < n]
