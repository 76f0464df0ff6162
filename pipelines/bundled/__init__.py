"""What the embedded default is made of: a reranker, questions, judgements, configurations."""
