"""Training the reranker: labelled pairs in, a measured and calibrated model out."""
