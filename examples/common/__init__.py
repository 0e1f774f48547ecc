"""What several examples share: embeddings, ranking by words, the passages of a folder."""
