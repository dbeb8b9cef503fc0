"""Comparing all stores with SQL, and repairing them from it.

findings.py  what is found, and the protocol of a check
rows.py      passages, embeddings and texts in SQL
leases.py    leases and times that cannot be
blobs.py     uploaded files
words.py     lexical indexes
vectors.py   Chroma's collections
files.py     Chroma's files
copies.py    what other apps keep of documents
run.py       all of them, with the record of a run
"""
