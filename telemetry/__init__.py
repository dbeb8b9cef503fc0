"""What the site tells its operator: request ids, logs, metrics, traces. The lowest layer.

Nothing of it leaves the machine unless the operator names where to (`OTEL_EXPORTER_OTLP_ENDPOINT`),
and nothing of it holds a question, an answer or the text of a document.
"""
